//! What a driver can ask of the node: one function a path, JSON in and out.

use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use lightning::bitcoin::consensus::encode;
use lightning::bitcoin::hashes::Hash;
use lightning::bitcoin::hex::FromHex;
use lightning::bitcoin::secp256k1::PublicKey;
use lightning::bitcoin::{Block, Transaction};
use lightning::ln::channelmanager::{
    Bolt11InvoiceParameters, PaymentId, RecipientOnionFields, Retry,
};
use lightning::ln::types::ChannelId;
use lightning::routing::router::{PaymentParameters, RouteParameters, RouteParametersConfig};
use lightning::sign::EntropySource;
use lightning::types::payment::{PaymentHash, PaymentPreimage};
use lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescription, Description};
use serde_json::{json, Value};
use tokio::time::{sleep, timeout};

use crate::custom::{CustomMessage, FIRST_CUSTOM_TYPE};
use crate::events::features_hex;
use crate::http::{Failure, Request};
use crate::node::{config, Node};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// LDK's own least delta for the last hop.
const FINAL_CLTV_EXPIRY_DELTA: u32 = 24;

pub async fn answer(node: &Node, request: &Request) -> Result<Value, Failure> {
    let body = &request.body;
    let answer = match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/info") => info(node),
        ("POST", "/connect") => connect(node, body).await,
        ("POST", "/disconnect") => disconnect(node, body),
        ("POST", "/open") => open(node, body),
        ("POST", "/confirm") => confirm(node, body),
        ("POST", "/block") => block(node, body),
        ("POST", "/fund") => fund(node, body),
        ("POST", "/keysend") => keysend(node, body),
        ("POST", "/invoice") => invoice(node, body),
        ("POST", "/pay") => pay(node, body),
        ("POST", "/hold") => hold(node, body),
        ("POST", "/settle") => settle(node, body),
        ("POST", "/feerate") => feerate(node, body),
        ("POST", "/close") => close(node, body),
        ("POST", "/tick") => tick(node),
        ("POST", "/send-custom") => send_custom(node, body),
        (method, path) => Err(format!("there is no {method} {path}")),
    };
    node.pump();
    answer
}

/// `{node_id, height, mempool, peers, channels, custom, events}`; transactions are hex.
fn info(node: &Node) -> Result<Value, Failure> {
    let peers: Vec<Value> = node
        .peers
        .list_peers()
        .into_iter()
        .map(|peer| {
            json!({
                "node_id": peer.counterparty_node_id.to_string(),
                "features": features_hex(peer.init_features.le_flags()),
                "inbound": peer.is_inbound_connection,
            })
        })
        .collect();
    let channels: Vec<Value> = node
        .channels
        .list_channels()
        .into_iter()
        .map(|channel| {
            json!({
                "channel_id": channel.channel_id.to_string(),
                "node_id": channel.counterparty.node_id.to_string(),
                "amount_sat": channel.channel_value_satoshis,
                "channel_type": channel.channel_type.map(|bits| features_hex(bits.le_flags())),
                "funding_outpoint":
                    channel.funding_txo.map(|txo| txo.into_bitcoin_outpoint().to_string()),
                "short_channel_id": channel.short_channel_id,
                "outbound_capacity_msat": channel.outbound_capacity_msat,
                "inbound_capacity_msat": channel.inbound_capacity_msat,
                "confirmations": channel.confirmations,
                "feerate_per_kw": channel.feerate_sat_per_1000_weight,
                "confirmations_required": channel.confirmations_required,
                "outbound": channel.is_outbound,
                "announced": channel.is_announced,
                "ready": channel.is_channel_ready,
                "usable": channel.is_usable,
            })
        })
        .collect();
    let mempool: Vec<String> = node
        .chain
        .mempool()
        .iter()
        .map(encode::serialize_hex)
        .collect();
    Ok(json!({
        "node_id": node.node_id().to_string(),
        "height": node.chain.height(),
        "mempool": mempool,
        "peers": peers,
        "channels": channels,
        "custom": node.custom.to_json(),
        "events": node.events.to_json(),
    }))
}

/// `{node_id, address}`: answered once `init` went both ways.
async fn connect(node: &Node, body: &Value) -> Result<Value, Failure> {
    let peer: PublicKey = parse(body, "node_id")?;
    let address: SocketAddr = parse(body, "address")?;
    if !address.ip().is_loopback() {
        return Err("this node dials loopback addresses only".into());
    }
    let connection = lightning_net_tokio::connect_outbound(node.peers.clone(), peer, address)
        .await
        .ok_or(format!("nobody listens at {address}"))?;
    let mut connection = tokio::spawn(connection);
    let ready = async {
        while node.peers.peer_by_node_id(&peer).is_none() {
            tokio::select! {
                _ = &mut connection => return Err("the peer hung up".to_string()),
                _ = sleep(Duration::from_millis(10)) => {},
            }
        }
        Ok(json!({"node_id": peer.to_string()}))
    };
    timeout(CONNECT_TIMEOUT, ready)
        .await
        .map_err(|_| "no init came in time".to_string())?
}

/// `{node_id}`.
fn disconnect(node: &Node, body: &Value) -> Result<Value, Failure> {
    node.peers.disconnect_by_node_id(parse(body, "node_id")?);
    Ok(json!({}))
}

/// `{node_id, amount_sat, push_msat = 0, announce = false, anchors = false}`: sends
/// `open_channel`, returns `{temporary_channel_id}`. On a made-up chain the funding transaction makes
/// itself.
fn open(node: &Node, body: &Value) -> Result<Value, Failure> {
    let temporary_channel_id = node
        .channels
        .create_channel(
            parse(body, "node_id")?,
            number(body, "amount_sat", None)?,
            number(body, "push_msat", Some(0))?,
            0,
            None,
            Some(config(flag(body, "announce")?, flag(body, "anchors")?)),
        )
        .map_err(|error| format!("{error:?}"))?;
    Ok(json!({"temporary_channel_id": temporary_channel_id.to_string()}))
}

/// `{transactions = the node's mempool, blocks = 6}`: returns `{height}`.
fn confirm(node: &Node, body: &Value) -> Result<Value, Failure> {
    let blocks = number(body, "blocks", Some(6))?;
    let transactions = match body.get("transactions") {
        None => node.chain.mempool(),
        Some(list) => list
            .as_array()
            .ok_or("transactions must be a list")?
            .iter()
            .map(|item| encode::deserialize_hex(item.as_str().unwrap_or_default()))
            .collect::<Result<Vec<Transaction>, _>>()
            .map_err(|error| format!("transactions: {error}"))?,
    };
    node.confirm(
        transactions,
        u32::try_from(blocks).map_err(|_| "too many blocks")?,
    );
    Ok(json!({"height": node.chain.height()}))
}

/// `{block, height, tip}` of a driven chain; the block is hex, and `tip` the last of the chain's.
fn block(node: &Node, body: &Value) -> Result<Value, Failure> {
    if !node.driven {
        return Err("this node makes its blocks itself".into());
    }
    let block: Block =
        encode::deserialize_hex(text(body, "block")?).map_err(|error| format!("block: {error}"))?;
    let height = u32::try_from(number(body, "height", None)?).map_err(|_| "no such height")?;
    node.confirm_driven(&block, height, flag(body, "tip")?);
    Ok(json!({}))
}

/// `{temporary_channel_id, node_id, transaction}`: what pays for a channel on a driven chain; the
/// node broadcasts it when it may.
fn fund(node: &Node, body: &Value) -> Result<Value, Failure> {
    let transaction: Transaction = encode::deserialize_hex(text(body, "transaction")?)
        .map_err(|error| format!("transaction: {error}"))?;
    node.channels
        .funding_transaction_generated(
            channel_id(body, "temporary_channel_id")?,
            parse(body, "node_id")?,
            transaction,
        )
        .map_err(|error| format!("{error:?}"))?;
    Ok(json!({}))
}

/// `{node_id, amount_msat}`: pays over a direct channel, returns `{payment_hash}`.
fn keysend(node: &Node, body: &Value) -> Result<Value, Failure> {
    let payee = parse(body, "node_id")?;
    let parameters = RouteParameters::from_payment_params_and_value(
        PaymentParameters::for_keysend(payee, FINAL_CLTV_EXPIRY_DELTA, false),
        number(body, "amount_msat", None)?,
    );
    let payment_hash = node
        .channels
        .send_spontaneous_payment(
            Some(PaymentPreimage(node.keys.get_secure_random_bytes())),
            RecipientOnionFields::spontaneous_empty(),
            PaymentId(node.keys.get_secure_random_bytes()),
            parameters,
            Retry::Attempts(0),
        )
        .map_err(|error| format!("{error:?}"))?;
    Ok(json!({"payment_hash": payment_hash.to_string()}))
}

/// `{amount_msat, description = ""}`: returns `{invoice, payment_hash}`.
fn invoice(node: &Node, body: &Value) -> Result<Value, Failure> {
    let description = Description::new(text(body, "description").unwrap_or_default().to_string())
        .map_err(|error| format!("description: {error}"))?;
    let made = node
        .channels
        .create_bolt11_invoice(Bolt11InvoiceParameters {
            amount_msats: Some(number(body, "amount_msat", None)?),
            description: Bolt11InvoiceDescription::Direct(description),
            ..Default::default()
        })
        .map_err(|error| format!("{error:?}"))?;
    let hash = PaymentHash(made.payment_hash().to_byte_array());
    Ok(json!({"invoice": made.to_string(), "payment_hash": hash.to_string()}))
}

/// `{invoice}`: returns `{payment_hash}`; what comes of it is an event.
fn pay(node: &Node, body: &Value) -> Result<Value, Failure> {
    let invoice: Bolt11Invoice = text(body, "invoice")?
        .parse()
        .map_err(|error| format!("invoice: {error:?}"))?;
    let hash = PaymentHash(invoice.payment_hash().to_byte_array());
    node.channels
        .pay_for_bolt11_invoice(
            &invoice,
            PaymentId(hash.0),
            None,
            RouteParametersConfig::default(),
            Retry::Attempts(0),
        )
        .map_err(|error| format!("{error:?}"))?;
    Ok(json!({"payment_hash": hash.to_string()}))
}

/// `{on}`: whether what arrives waits for `/settle`.
fn hold(node: &Node, body: &Value) -> Result<Value, Failure> {
    node.held.set(flag(body, "on")?);
    Ok(json!({}))
}

/// `{payment_hash, fail = false}`: what was held is claimed, or failed.
fn settle(node: &Node, body: &Value) -> Result<Value, Failure> {
    let hash = <[u8; 32]>::from_hex(text(body, "payment_hash")?)
        .map(PaymentHash)
        .map_err(|error| format!("payment_hash: {error}"))?;
    let preimage = node.held.take(&hash).ok_or("no such payment is held")?;
    if flag(body, "fail")? {
        node.channels.fail_htlc_backwards(&hash);
    } else {
        node.channels.claim_funds(preimage);
    }
    Ok(json!({}))
}

/// `{sat_per_1000_weight}`: what the node's own channels are to pay from now on.
fn feerate(node: &Node, body: &Value) -> Result<Value, Failure> {
    let feerate = number(body, "sat_per_1000_weight", None)?;
    let feerate = u32::try_from(feerate).map_err(|_| "there is no such feerate")?;
    node.chain.set_channel_feerate(feerate);
    node.tick();
    Ok(json!({}))
}

/// `{channel_id, node_id, force = false}`.
fn close(node: &Node, body: &Value) -> Result<Value, Failure> {
    let (channel_id, peer) = (channel_id(body, "channel_id")?, parse(body, "node_id")?);
    let closed = if flag(body, "force")? {
        let reason = "closed by the driver".to_string();
        node.channels
            .force_close_broadcasting_latest_txn(&channel_id, &peer, reason)
    } else {
        node.channels.close_channel(&channel_id, &peer)
    };
    closed.map_err(|error| format!("{error:?}"))?;
    Ok(json!({}))
}

/// A tick of the clock, before its time.
fn tick(node: &Node) -> Result<Value, Failure> {
    node.tick();
    Ok(json!({}))
}

/// `{node_id, count, size, type = 32769}`: sends `count` messages of `size` bytes, the first eight
/// of which count them.
fn send_custom(node: &Node, body: &Value) -> Result<Value, Failure> {
    let peer: PublicKey = parse(body, "node_id")?;
    let count = number(body, "count", None)?;
    let size = number(body, "size", None)?;
    let type_id = number(body, "type", Some(u64::from(FIRST_CUSTOM_TYPE) + 1))?;
    let type_id = u16::try_from(type_id)
        .ok()
        .filter(|id| *id >= FIRST_CUSTOM_TYPE && id % 2 == 1)
        .ok_or("type must be odd, from 32769 to 65535")?;
    if !(8..=65533).contains(&size) || count > 100_000 {
        return Err("size must be 8 to 65533 bytes, count at most 100000".into());
    }
    if node.peers.peer_by_node_id(&peer).is_none() {
        return Err("that peer is not connected".into());
    }
    for index in 0..count {
        let mut payload = index.to_be_bytes().to_vec();
        payload.resize(usize::try_from(size).expect("checked above"), index as u8);
        node.custom.send(peer, CustomMessage { type_id, payload });
    }
    Ok(json!({}))
}

fn channel_id(body: &Value, name: &str) -> Result<ChannelId, Failure> {
    <[u8; 32]>::from_hex(text(body, name)?)
        .map(ChannelId)
        .map_err(|error| format!("{name}: {error}"))
}

fn text<'a>(body: &'a Value, name: &str) -> Result<&'a str, Failure> {
    body.get(name)
        .and_then(Value::as_str)
        .ok_or(format!("{name} must be a string"))
}

fn parse<T: FromStr<Err: Display>>(body: &Value, name: &str) -> Result<T, Failure> {
    text(body, name)?
        .parse()
        .map_err(|error| format!("{name}: {error}"))
}

fn number(body: &Value, name: &str, default: Option<u64>) -> Result<u64, Failure> {
    match body.get(name) {
        None => default,
        Some(value) => value.as_u64(),
    }
    .ok_or(format!("{name} must be a whole number"))
}

fn flag(body: &Value, name: &str) -> Result<bool, Failure> {
    match body.get(name) {
        None => Ok(false),
        Some(value) => value
            .as_bool()
            .ok_or(format!("{name} must be true or false")),
    }
}
