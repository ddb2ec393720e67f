//! Messages of odd custom types, both ways, by the thousand: load for a transport's key rotation.
//!
//! Nothing answers them here. Each direction keeps a count and a digest, so that a driver can tell
//! that all of them arrived, whole and in order, without keeping one.

use std::collections::HashMap;
use std::sync::Mutex;

use lightning::bitcoin::hashes::{sha256, Hash, HashEngine};
use lightning::bitcoin::secp256k1::PublicKey;
use lightning::ln::msgs::{DecodeError, Init, LightningError};
use lightning::ln::peer_handler::CustomMessageHandler;
use lightning::ln::wire::{CustomMessageReader, Type};
use lightning::types::features::{InitFeatures, NodeFeatures};
use lightning::util::ser::{LengthLimitedRead, Writeable, Writer};
use serde_json::{json, Value};

use crate::events::{features_hex, Events};

/// BOLT #1 leaves the types from here on to experiments.
pub const FIRST_CUSTOM_TYPE: u16 = 32768;

#[derive(Debug)]
pub struct CustomMessage {
    pub type_id: u16,
    pub payload: Vec<u8>,
}

impl Type for CustomMessage {
    fn type_id(&self) -> u16 {
        self.type_id
    }
}

impl Writeable for CustomMessage {
    fn write<W: Writer>(&self, writer: &mut W) -> Result<(), lightning::io::Error> {
        writer.write_all(&self.payload)
    }
}

#[derive(Default)]
struct Tally {
    messages: u64,
    bytes: u64,
    digest: sha256::HashEngine,
}

impl Tally {
    fn add(&mut self, message: &CustomMessage) {
        self.messages += 1;
        self.bytes += message.payload.len() as u64;
        self.digest.input(&message.type_id.to_be_bytes());
        self.digest.input(&message.payload);
    }

    fn to_json(&self) -> Value {
        let digest = sha256::Hash::from_engine(self.digest.clone());
        json!({"messages": self.messages, "bytes": self.bytes, "sha256": digest.to_string()})
    }
}

#[derive(Default)]
struct Traffic {
    sent: HashMap<PublicKey, Tally>,
    received: HashMap<PublicKey, Tally>,
    outgoing: Vec<(PublicKey, CustomMessage)>,
}

/// Counts what comes, queues what goes, and notes who connects and who leaves.
pub struct CustomMessages {
    traffic: Mutex<Traffic>,
    events: &'static Events,
}

impl CustomMessages {
    pub fn new(events: &'static Events) -> Self {
        CustomMessages {
            traffic: Mutex::default(),
            events,
        }
    }

    pub fn send(&self, peer: PublicKey, message: CustomMessage) {
        let mut traffic = self.traffic.lock().unwrap();
        traffic.sent.entry(peer).or_default().add(&message);
        traffic.outgoing.push((peer, message));
    }

    /// `{node id: {"sent": {...}, "received": {...}}}`; the digest is the SHA-256 of all messages
    /// (type, then payload) one after the other.
    pub fn to_json(&self) -> Value {
        let traffic = self.traffic.lock().unwrap();
        let mut peers = json!({});
        for (direction, tallies) in [("sent", &traffic.sent), ("received", &traffic.received)] {
            for (peer, tally) in tallies {
                peers[peer.to_string()][direction] = tally.to_json();
            }
        }
        peers
    }
}

impl CustomMessageReader for CustomMessages {
    type CustomMessage = CustomMessage;

    fn read<R: LengthLimitedRead>(
        &self,
        message_type: u16,
        buffer: &mut R,
    ) -> Result<Option<CustomMessage>, DecodeError> {
        // An even type stays unknown, and LDK hangs up on it as BOLT #1 wants.
        if message_type < FIRST_CUSTOM_TYPE || message_type & 1 == 0 {
            return Ok(None);
        }
        let size = usize::try_from(buffer.remaining_bytes()).expect("a message is short");
        let mut payload = vec![0; size];
        buffer.read_exact(&mut payload)?;
        Ok(Some(CustomMessage {
            type_id: message_type,
            payload,
        }))
    }
}

impl CustomMessageHandler for CustomMessages {
    fn handle_custom_message(
        &self,
        message: CustomMessage,
        peer: PublicKey,
    ) -> Result<(), LightningError> {
        self.traffic
            .lock()
            .unwrap()
            .received
            .entry(peer)
            .or_default()
            .add(&message);
        Ok(())
    }

    fn get_and_clear_pending_msg(&self) -> Vec<(PublicKey, CustomMessage)> {
        std::mem::take(&mut self.traffic.lock().unwrap().outgoing)
    }

    fn peer_connected(&self, peer: PublicKey, init: &Init, inbound: bool) -> Result<(), ()> {
        self.events.push(json!({
            "event": "PeerConnected",
            "node_id": peer.to_string(),
            "inbound": inbound,
            "features": features_hex(init.features.le_flags()),
        }));
        Ok(())
    }

    fn peer_disconnected(&self, peer: PublicKey) {
        self.events
            .push(json!({"event": "PeerDisconnected", "node_id": peer.to_string()}));
    }

    fn provided_node_features(&self) -> NodeFeatures {
        NodeFeatures::empty()
    }

    fn provided_init_features(&self, _peer: PublicKey) -> InitFeatures {
        InitFeatures::empty()
    }
}
