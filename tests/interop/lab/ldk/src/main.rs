//! An LDK node on regtest, driven over HTTP on loopback.
//!
//! `ldk-node --data FOLDER --listen ADDR:PORT --http ADDR:PORT [--tick-seconds N]
//! [--chain made-up|driven]` prints one JSON line when it is ready, `{"node_id", "address",
//! "http"}` (port 0 takes a free one), logs to stderr, and ends when its standard input does.
//!
//! Its identity and its channels are in the folder: started again there, it is the same node. On a
//! made-up chain it makes its blocks and its money itself; driven, it gets both from its driver.

mod api;
mod chain;
mod custom;
mod events;
mod http;
mod monitors;
mod node;

use std::fs::{self, File};
use std::io::{Error, Read, Result};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use crate::node::Node;

struct Options {
    data: PathBuf,
    driven: bool,
    listen: SocketAddr,
    http: SocketAddr,
    tick: Duration,
}

fn options() -> Result<Options> {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    // Ten seconds are what LDK's own background processor takes.
    let mut options = Options {
        data: PathBuf::new(),
        driven: false,
        listen: loopback,
        http: loopback,
        tick: Duration::from_secs(10),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let bad = |_| Error::other(format!("{name} can't be {value:?}"));
        match name.as_str() {
            "--data" => options.data = value.into(),
            "--chain" => {
                options.driven = match value.as_str() {
                    "made-up" => false,
                    "driven" => true,
                    _ => return Err(bad(())),
                }
            }
            "--listen" => options.listen = value.parse().map_err(|_| bad(()))?,
            "--http" => options.http = value.parse().map_err(|_| bad(()))?,
            "--tick-seconds" => {
                let seconds: u64 = value.parse().map_err(|_| bad(()))?;
                options.tick = Duration::from_secs(seconds.max(1));
            }
            _ => return Err(Error::other(format!("no such option: {name}"))),
        }
    }
    if !(options.listen.ip().is_loopback() && options.http.ip().is_loopback()) {
        return Err(Error::other(
            "this node serves tests: it listens on loopback only",
        ));
    }
    if options.data.as_os_str().is_empty() {
        return Err(Error::other("--data is missing"));
    }
    Ok(options)
}

/// The node's identity, made when there is none yet.
fn seed(folder: &Path) -> Result<[u8; 32]> {
    let file = folder.join("seed");
    let mut seed = [0; 32];
    if file.exists() {
        File::open(file)?.read_exact(&mut seed)?;
    } else {
        File::open("/dev/urandom")?.read_exact(&mut seed)?;
        fs::create_dir_all(folder)?;
        fs::write(file, seed)?;
    }
    Ok(seed)
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let options = options()?;
    let seed = seed(&options.data)?;
    let node = Arc::new(Node::open(&seed, options.data, options.driven)?);
    let peers = TcpListener::bind(options.listen).await?;
    let http = TcpListener::bind(options.http).await?;
    println!(
        "{}",
        json!({
            "node_id": node.node_id().to_string(),
            "address": peers.local_addr()?.to_string(),
            "http": http.local_addr()?.to_string(),
        })
    );
    let clock = node.clone();
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 256];
    tokio::select! {
        _ = async move { clock.run(options.tick).await } => Ok(()),
        result = accept_peers(&node, peers) => result,
        result = accept_drivers(&node, http) => result,
        _ = async { while matches!(stdin.read(&mut ignored).await, Ok(1..)) {} } => {
            // Tokio's own reader of stdin would otherwise hold the process at its end.
            std::process::exit(0)
        },
    }
}

async fn accept_peers(node: &Node, listener: TcpListener) -> Result<()> {
    loop {
        let stream = listener.accept().await?.0.into_std()?;
        let peers = node.peers.clone();
        tokio::spawn(async move { lightning_net_tokio::setup_inbound(peers, stream).await });
    }
}

async fn accept_drivers(node: &Arc<Node>, listener: TcpListener) -> Result<()> {
    loop {
        let stream = listener.accept().await?.0;
        let node = node.clone();
        tokio::spawn(async move {
            if let Err(error) = serve(&node, stream).await {
                eprintln!("a driver's connection broke: {error}");
            }
        });
    }
}

async fn serve(node: &Node, mut stream: TcpStream) -> Result<()> {
    let answer = match http::read_request(&mut stream).await? {
        Ok(request) => api::answer(node, &request).await,
        Err(failure) => Err(failure),
    };
    http::write_answer(&mut stream, answer).await
}
