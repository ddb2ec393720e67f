//! LDK's `PeerChannelEncryptor` behind the functions of `rival.h`, as a C library.
//!
//! LDK keeps it to itself; the build makes it and its sealing function public (`rivals/build.py`)
//! and changes nothing else. It gets the best that is there: one buffer that each message is sealed
//! in, where LDK's own peers allocate one for each.

use std::ffi::{c_char, c_int};
use std::slice;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use lightning::bitcoin::secp256k1::ecdh::SharedSecret;
use lightning::bitcoin::secp256k1::ecdsa::{RecoverableSignature, Signature};
use lightning::bitcoin::secp256k1::{schnorr, PublicKey, Scalar, Secp256k1, SecretKey};
use lightning::bolt11_invoice::RawBolt11Invoice;
use lightning::ln::inbound_payment::ExpandedKey;
use lightning::ln::msgs::UnsignedGossipMessage;
use lightning::ln::peer_channel_encryptor::PeerChannelEncryptor;
use lightning::offers::invoice::UnsignedBolt12Invoice;
use lightning::sign::{NodeSigner, PeerStorageKey, ReceiveAuthKey, Recipient};

const HEADER: usize = 18;
const TAG: usize = 16;
const MAX_BODY: usize = 65535;
/// RIVAL_STREAM and RIVAL_FRAMES of rival.h.
const STREAM: usize = 4 * (MAX_BODY + HEADER + TAG);
const FRAMES: usize = 256;
const VERSION: &str = concat!(env!("LDK_VERSION"), "\0");

#[repr(C)]
pub struct Session {
    initiator_static: [u8; 32],
    initiator_ephemeral: [u8; 32],
    responder_static: [u8; 32],
    responder_ephemeral: [u8; 32],
    key: [u8; 32],
    chaining_key: [u8; 32],
}

/// A node's key, for handshakes and nothing else.
struct Node(SecretKey);

impl NodeSigner for Node {
    fn get_node_id(&self, _: Recipient) -> Result<PublicKey, ()> {
        Ok(self.0.public_key(&Secp256k1::new()))
    }

    fn ecdh(&self, _: Recipient, key: &PublicKey, _: Option<&Scalar>) -> Result<SharedSecret, ()> {
        Ok(SharedSecret::new(key, &self.0))
    }

    fn get_expanded_key(&self) -> ExpandedKey {
        unreachable!("a handshake takes none")
    }

    fn get_peer_storage_key(&self) -> PeerStorageKey {
        unreachable!("a handshake takes none")
    }

    fn get_receive_auth_key(&self) -> ReceiveAuthKey {
        unreachable!("a handshake takes none")
    }

    fn sign_invoice(&self, _: &RawBolt11Invoice, _: Recipient) -> Result<RecoverableSignature, ()> {
        Err(())
    }

    fn sign_bolt12_invoice(&self, _: &UnsignedBolt12Invoice) -> Result<schnorr::Signature, ()> {
        Err(())
    }

    fn sign_gossip_message(&self, _: UnsignedGossipMessage) -> Result<Signature, ()> {
        Err(())
    }

    fn sign_message(&self, _: &[u8]) -> Result<String, ()> {
        Err(())
    }
}

struct Pair {
    initiator: PeerChannelEncryptor,
    responder: PeerChannelEncryptor,
}

impl Pair {
    fn new(session: &Session) -> Option<Self> {
        let secp = Secp256k1::new();
        let secret = |bytes: &[u8; 32]| SecretKey::from_slice(bytes).ok();
        let local = &Node(secret(&session.initiator_static)?);
        let remote = &Node(secret(&session.responder_static)?);
        let mut initiator = PeerChannelEncryptor::new_outbound(
            remote.0.public_key(&secp),
            secret(&session.initiator_ephemeral)?,
        );
        let mut responder = PeerChannelEncryptor::new_inbound(&remote);
        let act_one = initiator.get_act_one(&secp);
        let ephemeral = secret(&session.responder_ephemeral)?;
        let act_two = responder
            .process_act_one_with_keys(&act_one, &remote, ephemeral, &secp)
            .ok()?;
        let (act_three, _) = initiator.process_act_two(&act_two, &local).ok()?;
        responder.process_act_three(&act_three).ok()?;
        Some(Pair {
            initiator,
            responder,
        })
    }
}

struct State {
    /// Its initiator only seals.
    sealing: Pair,
    /// What its initiator seals, its responder opens.
    both: Pair,
    /// One message, and its frame in its place.
    frame: Vec<u8>,
    stream: Vec<u8>,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

/// Makes a frame of the message behind the first `HEADER` bytes of `frame`.
fn seal(from: &mut PeerChannelEncryptor, frame: &mut Vec<u8>, length: usize) -> Option<()> {
    frame.resize(HEADER + length, 0);
    from.encrypt_message_with_header_0s(frame).ok()
}

/// Opens the frame at the start of `stream` in its place; returns where its message is.
fn open(to: &mut PeerChannelEncryptor, stream: &mut [u8]) -> Option<usize> {
    let length = usize::from(to.decrypt_length_header(&stream[..HEADER]).ok()?);
    to.decrypt_message(&mut stream[HEADER..HEADER + length + TAG])
        .ok()?;
    Some(length)
}

impl State {
    fn seal(&mut self, length: usize, count: usize) -> Option<Duration> {
        let started = Instant::now();
        for _ in 0..count {
            seal(&mut self.sealing.initiator, &mut self.frame, length)?;
        }
        Some(started.elapsed())
    }

    fn open(&mut self, length: usize, count: usize) -> Option<Duration> {
        let most = FRAMES.min(STREAM / (HEADER + length + TAG));
        let mut total = Duration::ZERO;
        let mut left = count;
        while left > 0 {
            let frames = most.min(left);
            self.stream.clear();
            for _ in 0..frames {
                seal(&mut self.both.initiator, &mut self.frame, length)?;
                self.stream.extend_from_slice(&self.frame);
            }
            let mut at = 0;
            let started = Instant::now();
            for _ in 0..frames {
                at += HEADER + open(&mut self.both.responder, &mut self.stream[at..])? + TAG;
            }
            total += started.elapsed();
            left -= frames;
        }
        Some(total)
    }

    fn sealed(&mut self, frames: &mut [u8], bodies: &[u8], length: usize) -> Option<()> {
        let to = frames.chunks_exact_mut(HEADER + length + TAG);
        for (frame, body) in to.zip(bodies.chunks_exact(length)) {
            self.frame.resize(HEADER + length, 0);
            self.frame[HEADER..HEADER + length].copy_from_slice(body);
            seal(&mut self.both.initiator, &mut self.frame, length)?;
            frame.copy_from_slice(&self.frame);
        }
        Some(())
    }

    fn opened(&mut self, bodies: &mut [u8], frames: &[u8], length: usize) -> Option<()> {
        self.stream.clear();
        self.stream.extend_from_slice(frames);
        let from = self.stream.chunks_exact_mut(HEADER + length + TAG);
        for (frame, body) in from.zip(bodies.chunks_exact_mut(length)) {
            if open(&mut self.both.responder, frame)? != length {
                return None;
            }
            body.copy_from_slice(&frame[HEADER..HEADER + length]);
        }
        Some(())
    }
}

/// Runs with the state; None where there is none or where that failed.
fn with<T>(run: impl FnOnce(&mut State) -> Option<T>) -> Option<T> {
    run(STATE.lock().ok()?.as_mut()?)
}

fn nanoseconds(duration: Option<Duration>) -> i64 {
    duration
        .and_then(|taken| i64::try_from(taken.as_nanos()).ok())
        .unwrap_or(-1)
}

#[no_mangle]
pub extern "C" fn rival_version() -> *const c_char {
    VERSION.as_ptr().cast()
}

/// # Safety
/// As `rival.h` says.
#[no_mangle]
pub unsafe extern "C" fn rival_start(session: *const Session) -> c_int {
    let pair = || Pair::new(&*session);
    let Ok(mut state) = STATE.lock() else {
        return 0;
    };
    *state = pair().zip(pair()).map(|(sealing, both)| State {
        sealing,
        both,
        frame: Vec::with_capacity(MAX_BODY + HEADER + TAG),
        stream: Vec::with_capacity(STREAM),
    });
    state.is_some().into()
}

#[no_mangle]
pub extern "C" fn rival_seal(length: usize, count: usize) -> i64 {
    nanoseconds(with(|state| state.seal(length, count)))
}

#[no_mangle]
pub extern "C" fn rival_open(length: usize, count: usize) -> i64 {
    nanoseconds(with(|state| state.open(length, count)))
}

/// # Safety
/// As `rival.h` says.
#[no_mangle]
pub unsafe extern "C" fn rival_sealed(
    frames: *mut u8,
    bodies: *const u8,
    length: usize,
    count: usize,
) -> c_int {
    let frames = slice::from_raw_parts_mut(frames, (HEADER + length + TAG) * count);
    let bodies = slice::from_raw_parts(bodies, length * count);
    with(|state| state.sealed(frames, bodies, length))
        .is_some()
        .into()
}

/// # Safety
/// As `rival.h` says.
#[no_mangle]
pub unsafe extern "C" fn rival_opened(
    bodies: *mut u8,
    frames: *const u8,
    length: usize,
    count: usize,
) -> c_int {
    let bodies = slice::from_raw_parts_mut(bodies, length * count);
    let frames = slice::from_raw_parts(frames, (HEADER + length + TAG) * count);
    with(|state| state.opened(bodies, frames, length))
        .is_some()
        .into()
}
