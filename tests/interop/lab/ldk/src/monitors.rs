//! The channels' monitors on the disk, never ahead of the manager of channels.
//!
//! LDK closes a channel whose monitor is newer than its manager. So a monitor waits here until the
//! manager that knows of its update is on the disk, and LDK sends nothing that depends on it before.

use std::collections::HashMap;
use std::io::Result;
use std::sync::{Arc, Mutex};

use lightning::chain::chainmonitor::Persist;
use lightning::chain::channelmonitor::{ChannelMonitor, ChannelMonitorUpdate};
use lightning::chain::ChannelMonitorUpdateStatus;
use lightning::ln::types::ChannelId;
use lightning::sign::InMemorySigner;
use lightning::util::persist::{
    KVStoreSync, MonitorName, CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE,
    CHANNEL_MONITOR_PERSISTENCE_SECONDARY_NAMESPACE,
};
use lightning::util::ser::Writeable;
use lightning_persister::fs_store::FilesystemStore;

/// The newest bytes of one monitor, and the updates that they hold.
pub struct Waiting {
    bytes: Vec<u8>,
    pub channel_id: ChannelId,
    pub updates: Vec<u64>,
}

pub struct Monitors {
    store: Arc<FilesystemStore>,
    waiting: Mutex<HashMap<String, Waiting>>,
}

impl Monitors {
    pub fn new(store: Arc<FilesystemStore>) -> Self {
        Monitors {
            store,
            waiting: Mutex::default(),
        }
    }

    pub fn take(&self) -> HashMap<String, Waiting> {
        std::mem::take(&mut self.waiting.lock().unwrap())
    }

    pub fn write(&self, key: &str, waiting: &Waiting) -> Result<()> {
        self.store
            .write(
                CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE,
                CHANNEL_MONITOR_PERSISTENCE_SECONDARY_NAMESPACE,
                key,
                waiting.bytes.clone(),
            )
            .map_err(Into::into)
    }

    fn wait(
        &self,
        name: MonitorName,
        update: Option<u64>,
        monitor: &ChannelMonitor<InMemorySigner>,
    ) -> ChannelMonitorUpdateStatus {
        let mut waiting = self.waiting.lock().unwrap();
        let entry = waiting.entry(name.to_string()).or_insert_with(|| Waiting {
            bytes: Vec::new(),
            channel_id: monitor.channel_id(),
            updates: Vec::new(),
        });
        entry.bytes = monitor.encode();
        entry.updates.extend(update);
        ChannelMonitorUpdateStatus::InProgress
    }
}

impl Persist<InMemorySigner> for Monitors {
    fn persist_new_channel(
        &self,
        name: MonitorName,
        monitor: &ChannelMonitor<InMemorySigner>,
    ) -> ChannelMonitorUpdateStatus {
        self.wait(name, Some(monitor.get_latest_update_id()), monitor)
    }

    fn update_persisted_channel(
        &self,
        name: MonitorName,
        update: Option<&ChannelMonitorUpdate>,
        monitor: &ChannelMonitor<InMemorySigner>,
    ) -> ChannelMonitorUpdateStatus {
        self.wait(name, update.map(|update| update.update_id), monitor)
    }

    fn archive_persisted_channel(&self, name: MonitorName) {
        <FilesystemStore as Persist<InMemorySigner>>::archive_persisted_channel(&self.store, name);
    }
}
