// lnd's brontide behind the functions of rival.h, as a C library.
//
// It gets the best that its API has: one buffer that every body is read into, as lnd's own peer
// does, and frames that are written to memory.
package main

/*
#cgo CFLAGS: -DRIVAL_TYPES_ONLY
#include "../../native/rival.h"
*/
import "C"

import (
	"bytes"
	"runtime"
	"runtime/debug"
	"time"
	"unsafe"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/lightningnetwork/lnd/brontide"
	"github.com/lightningnetwork/lnd/keychain"
)

const (
	overhead = 34
	maxBody  = 65535
)

// memory is an io.Writer over a slice that has room for all that is written.
type memory struct {
	slice []byte
	end   int
}

func (m *memory) Write(p []byte) (int, error) {
	n := copy(m.slice[m.end:], p)
	m.end += n
	return n, nil
}

var (
	// sealing only seals; what sender seals, receiver opens.
	sealing, sender, receiver *brontide.Machine

	plaintext = make([]byte, maxBody)
	stream    = make([]byte, C.RIVAL_STREAM)
	// A body and its tag.
	body = make([]byte, maxBody+16)
)

func static(secret *[C.RIVAL_KEY_SIZE]C.uint8_t) *keychain.PrivKeyECDH {
	key, _ := btcec.PrivKeyFromBytes(bytesOf(&secret[0], len(secret)))
	return &keychain.PrivKeyECDH{PrivKey: key}
}

func ephemeral(secret *[C.RIVAL_KEY_SIZE]C.uint8_t) func(*brontide.Machine) {
	return brontide.EphemeralGenerator(func() (*btcec.PrivateKey, error) {
		key, _ := btcec.PrivKeyFromBytes(bytesOf(&secret[0], len(secret)))
		return key, nil
	})
}

func bytesOf(first *C.uint8_t, length int) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(first)), length)
}

func handshake(session *C.rival_session) (*brontide.Machine, *brontide.Machine, error) {
	local := static(&session.responder_static)
	initiator := brontide.NewBrontideMachine(
		true, static(&session.initiator_static), local.PubKey(),
		ephemeral(&session.initiator_ephemeral),
	)
	responder := brontide.NewBrontideMachine(
		false, local, nil, ephemeral(&session.responder_ephemeral),
	)
	actOne, err := initiator.GenActOne()
	if err != nil {
		return nil, nil, err
	}
	if err := responder.RecvActOne(actOne); err != nil {
		return nil, nil, err
	}
	actTwo, err := responder.GenActTwo()
	if err != nil {
		return nil, nil, err
	}
	if err := initiator.RecvActTwo(actTwo); err != nil {
		return nil, nil, err
	}
	actThree, err := initiator.GenActThree()
	if err != nil {
		return nil, nil, err
	}
	return initiator, responder, responder.RecvActThree(actThree)
}

// seal writes one frame.
func seal(machine *brontide.Machine, to *memory, plaintext []byte) bool {
	if machine.WriteMessage(plaintext) != nil {
		return false
	}
	_, err := machine.Flush(to)
	return err == nil
}

// open reads one frame; what it returns is overwritten by the next.
func open(from *bytes.Reader) ([]byte, bool) {
	length, err := receiver.ReadHeader(from)
	if err != nil {
		return nil, false
	}
	plaintext, err := receiver.ReadBody(from, body[:length])
	return plaintext, err == nil
}

//export rival_version
func rival_version() *C.char {
	version := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "github.com/lightningnetwork/lnd" {
				version = module.Version
			}
		}
	}
	return C.CString(version + ", " + runtime.Version())
}

//export rival_start
func rival_start(session *C.rival_session) C.int {
	var err error
	if sealing, _, err = handshake(session); err != nil {
		return 0
	}
	if sender, receiver, err = handshake(session); err != nil {
		return 0
	}
	return 1
}

//export rival_seal
func rival_seal(length, count C.size_t) C.int64_t {
	to := memory{slice: stream}
	message := plaintext[:length]
	started := time.Now()
	for range count {
		to.end = 0
		if !seal(sealing, &to, message) {
			return -1
		}
	}
	return C.int64_t(time.Since(started))
}

//export rival_open
func rival_open(length, count C.size_t) C.int64_t {
	message := plaintext[:length]
	frames := min(C.RIVAL_FRAMES, len(stream)/(len(message)+overhead))
	from := bytes.NewReader(nil)
	var total time.Duration
	for left := int(count); left > 0; left -= frames {
		to := memory{slice: stream}
		frames = min(frames, left)
		for range frames {
			if !seal(sender, &to, message) {
				return -1
			}
		}
		from.Reset(stream[:to.end])
		started := time.Now()
		for range frames {
			if _, ok := open(from); !ok {
				return -1
			}
		}
		total += time.Since(started)
	}
	return C.int64_t(total)
}

//export rival_sealed
func rival_sealed(frames, bodies *C.uint8_t, length, count C.size_t) C.int {
	to := memory{slice: bytesOf(frames, int((length+overhead)*count))}
	from := bytesOf(bodies, int(length*count))
	for range count {
		if !seal(sender, &to, from[:length]) {
			return 0
		}
		from = from[length:]
	}
	return 1
}

//export rival_opened
func rival_opened(bodies, frames *C.uint8_t, length, count C.size_t) C.int {
	from := bytes.NewReader(bytesOf(frames, int((length+overhead)*count)))
	to := bytesOf(bodies, int(length*count))
	for range count {
		message, ok := open(from)
		if !ok || len(message) != int(length) {
			return 0
		}
		to = to[copy(to, message):]
	}
	return 1
}

func main() {}
