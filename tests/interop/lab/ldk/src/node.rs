//! One LDK node: its parts put together, its events carried on, its clock.

use std::collections::HashMap;
use std::io::{Error, Result};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lightning::bitcoin::hashes::{sha256, Hash};
use lightning::bitcoin::secp256k1::PublicKey;
use lightning::bitcoin::{Amount, Block, BlockHash};
use lightning::chain::chainmonitor::ChainMonitor;
use lightning::chain::{BestBlock, Confirm, Filter, Listen};
use lightning::events::{Event, EventsProvider};
use lightning::io::{Cursor, ErrorKind};
use lightning::ln::channelmanager::{ChainParameters, ChannelManager, ChannelManagerReadArgs};
use lightning::ln::peer_handler::{IgnoringMessageHandler, MessageHandler, PeerManager};
use lightning::onion_message::messenger::NullMessageRouter;
use lightning::routing::gossip::{NetworkGraph, P2PGossipSync};
use lightning::routing::router::DefaultRouter;
use lightning::routing::scoring::FixedPenaltyScorer;
use lightning::routing::utxo::UtxoLookup;
use lightning::sign::{EntropySource, InMemorySigner, KeysManager, NodeSigner};
use lightning::types::payment::{PaymentHash, PaymentPreimage};
use lightning::util::config::UserConfig;
use lightning::util::logger::{Level, Logger, Record};
use lightning::util::persist::{
    read_channel_monitors, KVStoreSync, CHANNEL_MANAGER_PERSISTENCE_KEY,
    CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE, CHANNEL_MANAGER_PERSISTENCE_SECONDARY_NAMESPACE,
};
use lightning::util::ser::{ReadableArgs, Writeable};
use lightning_net_tokio::SocketDescriptor;
use lightning_persister::fs_store::FilesystemStore;
use serde_json::json;
use tokio::time::{interval, sleep};

use crate::chain::{Chain, NETWORK};
use crate::custom::CustomMessages;
use crate::events::{features_hex, Events};
use crate::monitors::Monitors;

/// How often LDK asks to have its channels looked after.
const CHANNEL_TICK: Duration = Duration::from_secs(60);

/// The longest that an event waits when no future announces it.
const POLL: Duration = Duration::from_millis(100);

pub struct Stderr;

impl Logger for Stderr {
    fn log(&self, record: Record) {
        if record.level >= Level::Debug {
            eprintln!(
                "{} {}:{} {}",
                record.level, record.module_path, record.line, record.args
            );
        }
    }
}

type Graph = Arc<NetworkGraph<Arc<Stderr>>>;
type Monitor = ChainMonitor<
    InMemorySigner,
    Arc<dyn Filter + Send + Sync>,
    Arc<Chain>,
    Arc<Chain>,
    Arc<Stderr>,
    Arc<Monitors>,
    Arc<KeysManager>,
>;
type Router = DefaultRouter<
    Graph,
    Arc<Stderr>,
    Arc<KeysManager>,
    Arc<RwLock<FixedPenaltyScorer>>,
    (),
    FixedPenaltyScorer,
>;
type Channels = ChannelManager<
    Arc<Monitor>,
    Arc<Chain>,
    Arc<KeysManager>,
    Arc<KeysManager>,
    Arc<KeysManager>,
    Arc<Chain>,
    Arc<Router>,
    Arc<NullMessageRouter>,
    Arc<Stderr>,
>;
type Gossip = P2PGossipSync<Graph, Arc<dyn UtxoLookup + Send + Sync>, Arc<Stderr>>;
pub type Peers = PeerManager<
    SocketDescriptor,
    Arc<Channels>,
    Arc<Gossip>,
    Arc<IgnoringMessageHandler>,
    Arc<Stderr>,
    Arc<CustomMessages>,
    Arc<KeysManager>,
    Arc<Monitor>,
>;

/// Where the manager of channels is kept in the store.
const MANAGER: (&str, &str, &str) = (
    CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE,
    CHANNEL_MANAGER_PERSISTENCE_SECONDARY_NAMESPACE,
    CHANNEL_MANAGER_PERSISTENCE_KEY,
);

/// Payments that have arrived and wait for the driver's word.
#[derive(Default)]
pub struct Held {
    on: Mutex<bool>,
    payments: Mutex<HashMap<PaymentHash, PaymentPreimage>>,
}

impl Held {
    pub fn set(&self, on: bool) {
        *self.on.lock().unwrap() = on;
    }

    /// Whether this one is held from now on.
    fn put(&self, hash: PaymentHash, preimage: PaymentPreimage) -> bool {
        let on = *self.on.lock().unwrap();
        if on {
            self.payments.lock().unwrap().insert(hash, preimage);
        }
        on
    }

    pub fn take(&self, hash: &PaymentHash) -> Option<PaymentPreimage> {
        self.payments.lock().unwrap().remove(hash)
    }
}

pub struct Node {
    /// Whether blocks and funding transactions are the driver's.
    pub driven: bool,
    pub chain: Arc<Chain>,
    pub channels: Arc<Channels>,
    pub custom: Arc<CustomMessages>,
    pub events: &'static Events,
    pub held: Held,
    pub keys: Arc<KeysManager>,
    pub peers: Arc<Peers>,
    monitor: Arc<Monitor>,
    monitors: Arc<Monitors>,
    /// Held while something is written.
    writing: Mutex<()>,
    store: Arc<FilesystemStore>,
}

impl Node {
    /// The node whose channels are in this folder; `seed` is its identity.
    pub fn open(seed: &[u8; 32], folder: PathBuf, driven: bool) -> Result<Self> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a clock past 1970");
        let now_seconds = u32::try_from(now.as_secs()).expect("a clock before 2106");
        let logger = Arc::new(Stderr);
        let chain = Arc::new(Chain::new());
        let keys = Arc::new(KeysManager::new(
            seed,
            now.as_secs(),
            now.subsec_nanos(),
            true,
        ));
        let store = Arc::new(FilesystemStore::new(folder));
        let monitors = Arc::new(Monitors::new(store.clone()));
        let known = read_channel_monitors(store.clone(), keys.clone(), keys.clone())?;
        let monitor = Arc::new(Monitor::new(
            None,
            chain.clone(),
            logger.clone(),
            chain.clone(),
            monitors.clone(),
            keys.clone(),
            keys.get_peer_storage_key(),
        ));
        let graph = Arc::new(NetworkGraph::new(NETWORK, logger.clone()));
        let scorer = Arc::new(RwLock::new(FixedPenaltyScorer::with_penalty(0)));
        let router = Router::new(graph.clone(), logger.clone(), keys.clone(), scorer, ());
        let router = Arc::new(router);
        let messages = Arc::new(NullMessageRouter {});
        let channels = match store.read(MANAGER.0, MANAGER.1, MANAGER.2) {
            Ok(bytes) => {
                let arguments = ChannelManagerReadArgs::new(
                    keys.clone(),
                    keys.clone(),
                    keys.clone(),
                    chain.clone(),
                    monitor.clone(),
                    chain.clone(),
                    router,
                    messages,
                    logger.clone(),
                    config(false, true),
                    known.iter().map(|(_, monitor)| monitor).collect(),
                );
                let (_, channels) =
                    <(BlockHash, Channels)>::read(&mut Cursor::new(bytes), arguments)
                        .map_err(|error| Error::other(format!("the manager: {error:?}")))?;
                channels
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Channels::new(
                chain.clone(),
                monitor.clone(),
                chain.clone(),
                router,
                messages,
                logger.clone(),
                keys.clone(),
                keys.clone(),
                keys.clone(),
                config(false, true),
                ChainParameters {
                    network: NETWORK,
                    best_block: BestBlock::from_network(NETWORK),
                },
                now_seconds,
            ),
            Err(error) => return Err(Error::other(format!("the manager: {error}"))),
        };
        for (_, each) in known {
            let id = each.channel_id();
            monitor
                .load_existing_monitor(id, each)
                .map_err(|()| Error::other(format!("the monitor of channel {id}")))?;
        }
        let channels = Arc::new(channels);
        // Never dropped, like the node itself: there is one for the whole process.
        let events: &'static Events = Box::leak(Box::default());
        let custom = Arc::new(CustomMessages::new(events));
        let peers = Arc::new(Peers::new(
            MessageHandler {
                chan_handler: channels.clone(),
                route_handler: Arc::new(Gossip::new(graph, None, logger.clone())),
                onion_message_handler: Arc::new(IgnoringMessageHandler {}),
                custom_message_handler: custom.clone(),
                send_only_message_handler: monitor.clone(),
            },
            now_seconds,
            &keys.get_secure_random_bytes(),
            logger,
            keys.clone(),
        ));
        Ok(Node {
            driven,
            chain,
            channels,
            custom,
            events,
            held: Held::default(),
            keys,
            peers,
            monitor,
            monitors,
            writing: Mutex::default(),
            store,
        })
    }

    pub fn node_id(&self) -> PublicKey {
        self.channels.get_our_node_id()
    }

    /// Tells every part of the node of new blocks.
    pub fn confirm(&self, transactions: Vec<lightning::bitcoin::Transaction>, blocks: u32) {
        for (block, height) in self.chain.extend(transactions, blocks) {
            self.channels.block_connected(&block, height);
            self.monitor.block_connected(&block, height);
        }
    }

    /// Tells every part of the node of one of the driver's blocks; a block may be told twice, the
    /// tip comes last.
    pub fn confirm_driven(&self, block: &Block, height: u32, is_tip: bool) {
        let transactions: Vec<_> = block.txdata.iter().enumerate().collect();
        let parts: [&dyn Confirm; 2] = [&*self.channels, &*self.monitor];
        for part in parts {
            part.transactions_confirmed(&block.header, &transactions, height);
            if is_tip {
                part.best_block_updated(&block.header, height);
            }
        }
        self.chain.forget(&block.txdata);
    }

    /// Writes what has changed to the disk: the manager of channels first, then the monitors that
    /// it knows of. True if LDK goes on by that.
    fn persist(&self) -> bool {
        let _writing = self.writing.lock().unwrap();
        let waiting = self.monitors.take();
        if self.channels.get_and_clear_needs_persistence() || !waiting.is_empty() {
            self.store
                .write(MANAGER.0, MANAGER.1, MANAGER.2, self.channels.encode())
                .expect("a disk that can be written");
        }
        for (key, each) in &waiting {
            self.monitors
                .write(key, each)
                .expect("a disk that can be written");
            for update in &each.updates {
                // A channel that is over has no monitor to go on with.
                let _ = self.monitor.channel_monitor_updated(each.channel_id, *update);
            }
        }
        !waiting.is_empty()
    }

    /// One timer tick of LDK's: a ping to every peer, and whoever left the last one unanswered is
    /// disconnected.
    pub fn tick(&self) {
        self.peers.timer_tick_occurred();
        self.channels.timer_tick_occurred();
    }

    /// Carries on what waits: events, HTLCs to settle, messages to send.
    pub fn pump(&self) {
        let handler = |event| {
            self.handle(event);
            Ok(())
        };
        loop {
            self.channels.process_pending_events(&handler);
            self.monitor.process_pending_events(&handler);
            if self.channels.needs_pending_htlc_processing() {
                self.channels.process_pending_htlc_forwards();
                self.channels.process_pending_events(&handler);
            }
            // What a message promises is on the disk before it leaves.
            if !self.persist() {
                break;
            }
        }
        self.peers.process_events();
    }

    /// Runs for ever: pumps when there is something to do, ticks every `peer_tick`.
    pub async fn run(&self, peer_tick: Duration) {
        let mut peer_timer = interval(peer_tick);
        let mut channel_timer = interval(CHANNEL_TICK);
        loop {
            tokio::select! {
                _ = self.channels.get_event_or_persistence_needed_future() => {},
                _ = self.monitor.get_update_future() => {},
                _ = sleep(POLL) => {},
                _ = peer_timer.tick() => self.peers.timer_tick_occurred(),
                _ = channel_timer.tick() => self.channels.timer_tick_occurred(),
            }
            self.pump();
        }
    }

    fn handle(&self, event: Event) {
        match event {
            Event::FundingGenerationReady {
                temporary_channel_id,
                counterparty_node_id,
                channel_value_satoshis,
                output_script,
                ..
            } => {
                self.events.push(json!({
                    "event": "FundingGenerationReady",
                    "temporary_channel_id": temporary_channel_id.to_string(),
                    "node_id": counterparty_node_id.to_string(),
                    "amount_sat": channel_value_satoshis,
                    "output_script": output_script.to_hex_string(),
                }));
                if self.driven {
                    return;
                }
                let salt = sha256::Hash::hash(&self.node_id().serialize()).to_byte_array();
                let value = Amount::from_sat(channel_value_satoshis);
                let funding = self.chain.fund(&salt, value, output_script);
                let funded = self.channels.funding_transaction_generated(
                    temporary_channel_id,
                    counterparty_node_id,
                    funding,
                );
                if let Err(error) = funded {
                    self.events.push(json!({
                        "event": "FundingFailed",
                        "temporary_channel_id": temporary_channel_id.to_string(),
                        "reason": format!("{error:?}"),
                    }));
                }
            }
            Event::OpenChannelRequest {
                temporary_channel_id,
                counterparty_node_id,
                funding_satoshis,
                channel_type,
                ..
            } => {
                let accepted = self.channels.accept_inbound_channel(
                    &temporary_channel_id,
                    &counterparty_node_id,
                    0,
                    None,
                );
                self.events.push(json!({
                    "event": "OpenChannelRequest",
                    "temporary_channel_id": temporary_channel_id.to_string(),
                    "node_id": counterparty_node_id.to_string(),
                    "amount_sat": funding_satoshis,
                    "channel_type": features_hex(channel_type.le_flags()),
                    "refused": accepted.err().map(|error| format!("{error:?}")),
                }));
            }
            Event::ChannelPending {
                channel_id,
                counterparty_node_id,
                funding_txo,
                ..
            } => self.events.push(json!({
                "event": "ChannelPending",
                "channel_id": channel_id.to_string(),
                "node_id": counterparty_node_id.to_string(),
                "funding_outpoint": funding_txo.to_string(),
            })),
            Event::ChannelReady {
                channel_id,
                counterparty_node_id,
                ..
            } => self.events.push(json!({
                "event": "ChannelReady",
                "channel_id": channel_id.to_string(),
                "node_id": counterparty_node_id.to_string(),
            })),
            Event::ChannelClosed {
                channel_id,
                counterparty_node_id,
                reason,
                ..
            } => self.events.push(json!({
                "event": "ChannelClosed",
                "channel_id": channel_id.to_string(),
                "node_id": counterparty_node_id.map(|id| id.to_string()),
                "reason": reason.to_string(),
            })),
            Event::PaymentClaimable {
                payment_hash,
                amount_msat,
                purpose,
                ..
            } => {
                let preimage = purpose.preimage();
                self.events.push(json!({
                    "event": "PaymentClaimable",
                    "payment_hash": payment_hash.to_string(),
                    "amount_msat": amount_msat,
                    "preimage_known": preimage.is_some(),
                }));
                match preimage {
                    Some(preimage) if self.held.put(payment_hash, preimage) => {}
                    Some(preimage) => self.channels.claim_funds(preimage),
                    None => self.channels.fail_htlc_backwards(&payment_hash),
                }
            }
            Event::PaymentClaimed {
                payment_hash,
                amount_msat,
                ..
            } => self.events.push(json!({
                "event": "PaymentClaimed",
                "payment_hash": payment_hash.to_string(),
                "amount_msat": amount_msat,
            })),
            Event::PaymentSent {
                payment_hash,
                payment_preimage,
                fee_paid_msat,
                ..
            } => self.events.push(json!({
                "event": "PaymentSent",
                "payment_hash": payment_hash.to_string(),
                "payment_preimage": payment_preimage.to_string(),
                "fee_paid_msat": fee_paid_msat,
            })),
            Event::PaymentFailed {
                payment_hash,
                reason,
                ..
            } => self.events.push(json!({
                "event": "PaymentFailed",
                "payment_hash": payment_hash.map(|hash| hash.to_string()),
                "reason": reason.map(|reason| format!("{reason:?}")),
            })),
            other => self.events.push(json!({
                "event": "Other",
                "debug": format!("{other:?}").chars().take(500).collect::<String>(),
            })),
        }
    }
}

/// What the node asks of a channel. It takes announced and unannounced ones, of any funding that
/// LDK can handle, and says yes to every `open_channel` itself.
pub fn config(announce: bool, anchors: bool) -> UserConfig {
    let mut config = UserConfig::default();
    config.channel_handshake_config.announce_for_forwarding = announce;
    config
        .channel_handshake_config
        .negotiate_anchors_zero_fee_htlc_tx = anchors;
    config
        .channel_handshake_limits
        .force_announced_channel_preference = false;
    config.manually_accept_inbound_channels = true;
    config
}
