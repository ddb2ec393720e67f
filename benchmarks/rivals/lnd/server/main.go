// lnd's brontide as a server that answers pings, at its best: no node behind it, one goroutine a
// connection that reads and writes, buffers from a pool as lnd's own peer takes them.
//
// Prints one JSON line, {"address": "node id@127.0.0.1:port"}; ends when its standard input does.
package main

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"log"
	"os"
	"sync"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/lightningnetwork/lnd/brontide"
	"github.com/lightningnetwork/lnd/keychain"
)

const (
	// BOLT #1.
	typeInit = 16
	typePing = 18
	typePong = 19
	// From here on, num_pong_bytes asks for no answer.
	noPong = 65532

	maxMessage = 65535
	tagSize    = 16
	// A message's type and its first length.
	fieldsSize = 4
)

// An init with neither features nor networks.
var initMessage = []byte{0, typeInit, 0, 0, 0, 0}

var buffers = sync.Pool{New: func() any { return new([maxMessage + tagSize]byte) }}

func send(connection *brontide.Conn, message []byte) error {
	if err := connection.WriteMessage(message); err != nil {
		return err
	}
	_, err := connection.Flush()
	return err
}

// turn reads one message, and answers it if it is a ping.
func turn(connection *brontide.Conn) error {
	length, err := connection.ReadNextHeader()
	if err != nil {
		return err
	}
	buffer := buffers.Get().(*[maxMessage + tagSize]byte)
	defer buffers.Put(buffer)
	message, err := connection.ReadNextBody(buffer[:length])
	if err != nil {
		return err
	}
	if len(message) < fieldsSize || binary.BigEndian.Uint16(message) != typePing {
		return nil
	}
	wanted := binary.BigEndian.Uint16(message[2:])
	if wanted >= noPong {
		return nil
	}
	// The ping has served: the pong takes its buffer.
	pong := buffer[:fieldsSize+int(wanted)]
	binary.BigEndian.PutUint16(pong, typePong)
	binary.BigEndian.PutUint16(pong[2:], wanted)
	clear(pong[fieldsSize:])
	return send(connection, pong)
}

func serve(connection *brontide.Conn) {
	defer connection.Close()
	err := send(connection, initMessage)
	for err == nil {
		err = turn(connection)
	}
}

func run() error {
	key, err := btcec.NewPrivateKey()
	if err != nil {
		return err
	}
	listener, err := brontide.NewListener(
		&keychain.PrivKeyECDH{PrivKey: key}, "127.0.0.1:0", brontide.DisabledBanClosure,
	)
	if err != nil {
		return err
	}
	nodeID := hex.EncodeToString(key.PubKey().SerializeCompressed())
	address := map[string]string{"address": nodeID + "@" + listener.Addr().String()}
	if err := json.NewEncoder(os.Stdout).Encode(address); err != nil {
		return err
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for {
		connection, err := listener.Accept()
		if err != nil {
			// Of one connection, whose handshake failed.
			log.Print(err)
			continue
		}
		go serve(connection.(*brontide.Conn))
	}
}

func main() {
	log.Fatal(run())
}
