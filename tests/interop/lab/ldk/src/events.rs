//! The log of what happened to the node, as JSON objects, for a driver to read.

use std::collections::VecDeque;
use std::sync::Mutex;

use serde_json::Value;

/// Older events are dropped beyond this many.
const KEPT: usize = 10_000;

#[derive(Default)]
pub struct Events(Mutex<VecDeque<Value>>);

impl Events {
    pub fn push(&self, event: Value) {
        eprintln!("EVENT {event}");
        let mut events = self.0.lock().unwrap();
        if events.len() == KEPT {
            events.pop_front();
        }
        events.push_back(event);
    }

    pub fn to_json(&self) -> Value {
        Value::Array(self.0.lock().unwrap().iter().cloned().collect())
    }
}

/// Feature bits as `init` carries them: big-endian, so the last byte holds bits 0 to 7.
pub fn features_hex(le_flags: &[u8]) -> String {
    le_flags
        .iter()
        .rev()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
