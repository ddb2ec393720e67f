//! LDK's `PeerManager` as a server that answers pings, with no channels and no gossip behind it.
//!
//! Prints one JSON line, `{"address": "node id@127.0.0.1:port"}`; ends when its standard input does.

use std::fs::File;
use std::io::{Read, Result};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lightning::ln::peer_handler::{ErroringMessageHandler, IgnoringMessageHandler, PeerManager};
use lightning::sign::{KeysManager, NodeSigner, Recipient};
use lightning::util::logger::{Logger, Record};
use lightning_net_tokio::SocketDescriptor;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::interval;

/// How often LDK asks to be told that time passes.
const TICK: Duration = Duration::from_secs(10);

struct Silent;

impl Logger for Silent {
    fn log(&self, _: Record) {}
}

/// Nobody behind it; the handler that refuses channels offers the features that peers ask for.
type Peers = PeerManager<
    SocketDescriptor,
    ErroringMessageHandler,
    IgnoringMessageHandler,
    IgnoringMessageHandler,
    Arc<Silent>,
    IgnoringMessageHandler,
    Arc<KeysManager>,
    IgnoringMessageHandler,
>;

fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

async fn accept(peers: &Arc<Peers>, listener: TcpListener) -> Result<()> {
    loop {
        let stream = listener.accept().await?.0.into_std()?;
        // The returned future only waits for the end; the connection has a task of its own.
        drop(lightning_net_tokio::setup_inbound(peers.clone(), stream));
    }
}

// Whatever a peer says makes LDK look after all peers, but one thread does so for all that wait:
// with eight it answers most pings, on one CPU too, and with one it loses thousands of idle peers.
#[tokio::main(worker_threads = 8)]
async fn main() -> Result<()> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock past 1970");
    let seconds = u32::try_from(now.as_secs()).expect("a clock before 2106");
    let keys = Arc::new(KeysManager::new(
        &random()?,
        now.as_secs(),
        now.subsec_nanos(),
        true,
    ));
    let node_id = keys.get_node_id(Recipient::Node).expect("a node has an id");
    let peers = Arc::new(Peers::new_routing_only(
        IgnoringMessageHandler {},
        seconds,
        &random()?,
        Arc::new(Silent),
        keys,
    ));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{{\"address\": \"{node_id}@{}\"}}", listener.local_addr()?);
    let clock = peers.clone();
    tokio::spawn(async move {
        let mut ticks = interval(TICK);
        loop {
            ticks.tick().await;
            clock.timer_tick_occurred();
        }
    });
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 256];
    tokio::select! {
        result = accept(&peers, listener) => result,
        _ = async { while matches!(stdin.read(&mut ignored).await, Ok(1..)) {} } => {
            // Tokio's own reader of stdin would otherwise hold the process at its end.
            std::process::exit(0)
        },
    }
}
