//! A made-up regtest chain: blocks hold whatever the driver says, and fees are what it says.
//!
//! Nodes that are told to confirm the same transactions build the same blocks, so a set of
//! processes shares one chain without talking to each other.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Mutex;

use lightning::bitcoin::absolute::LockTime;
use lightning::bitcoin::block::{Header, Version as BlockVersion};
use lightning::bitcoin::constants::genesis_block;
use lightning::bitcoin::hashes::Hash;
use lightning::bitcoin::transaction::Version;
use lightning::bitcoin::{
    Amount, Block, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Txid, Witness,
};
use lightning::chain::chaininterface::{BroadcasterInterface, ConfirmationTarget, FeeEstimator};
use lightning::chain::BestBlock;

pub const NETWORK: Network = Network::Regtest;

/// The lowest feerate that relays, in sat per 1000 weight; lnd uses the same on an idle chain.
const FEERATE: u32 = 253;

struct State {
    tip: BestBlock,
    spent: HashSet<OutPoint>,
    mempool: Vec<Transaction>,
    fundings: u64,
}

pub struct Chain {
    state: Mutex<State>,
    /// What a channel's commitments are to pay, in sat per 1000 weight.
    channel_feerate: AtomicU32,
}

impl Chain {
    pub fn new() -> Self {
        Chain {
            state: Mutex::new(State {
                tip: BestBlock::from_network(NETWORK),
                spent: HashSet::new(),
                mempool: Vec::new(),
                fundings: 0,
            }),
            channel_feerate: AtomicU32::new(FEERATE),
        }
    }

    /// From the next tick on, the node's own channels pay this.
    pub fn set_channel_feerate(&self, sat_per_1000_weight: u32) {
        self.channel_feerate
            .store(sat_per_1000_weight.max(FEERATE), Ordering::Relaxed);
    }

    pub fn height(&self) -> u32 {
        self.state.lock().unwrap().tip.height
    }

    /// What the node broadcast and no block holds yet.
    pub fn mempool(&self) -> Vec<Transaction> {
        self.state.lock().unwrap().mempool.clone()
    }

    /// Drops from the mempool what a block of somebody else's holds.
    pub fn forget(&self, confirmed: &[Transaction]) {
        let confirmed: HashSet<Txid> = confirmed.iter().map(|tx| tx.compute_txid()).collect();
        let mut state = self.state.lock().unwrap();
        state
            .mempool
            .retain(|tx| !confirmed.contains(&tx.compute_txid()));
    }

    /// Makes a block of `transactions`, less those that spend what is already spent, then empty
    /// ones until there are `blocks` new ones; returns each with its height.
    pub fn extend(&self, transactions: Vec<Transaction>, blocks: u32) -> Vec<(Block, u32)> {
        let mut state = self.state.lock().unwrap();
        let mut confirmed = Vec::new();
        for transaction in transactions {
            let inputs = || transaction.input.iter().map(|input| input.previous_output);
            if inputs().all(|outpoint| !state.spent.contains(&outpoint)) {
                let spent: Vec<OutPoint> = inputs().collect();
                state.spent.extend(spent);
                confirmed.push(transaction);
            }
        }
        let State { mempool, spent, .. } = &mut *state;
        mempool.retain(|tx| {
            tx.input
                .iter()
                .all(|input| !spent.contains(&input.previous_output))
        });
        (0..blocks)
            .map(|_| {
                let height = state.tip.height + 1;
                let mut txdata = vec![coinbase(height)];
                txdata.append(&mut confirmed);
                let block = block(&state.tip, txdata);
                state.tip = BestBlock::new(block.block_hash(), height);
                (block, height)
            })
            .collect()
    }

    /// A transaction that pays `value` to `script` out of thin air, never twice the same.
    ///
    /// `salt` tells nodes apart: two processes must not spend the same made-up output.
    pub fn fund(&self, salt: &[u8; 32], value: Amount, script: ScriptBuf) -> Transaction {
        let mut state = self.state.lock().unwrap();
        state.fundings += 1;
        let previous_output = OutPoint {
            txid: Txid::from_byte_array(*salt),
            vout: u32::try_from(state.fundings).expect("fewer than 2^32 channels"),
        };
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output,
                script_sig: ScriptBuf::new(),
                sequence: Sequence::MAX,
                // LDK takes no funding transaction whose inputs have no witness.
                witness: Witness::from_slice(&[[1u8]]),
            }],
            output: vec![TxOut {
                value,
                script_pubkey: script,
            }],
        }
    }
}

impl BroadcasterInterface for Chain {
    fn broadcast_transactions(&self, transactions: &[&Transaction]) {
        let mut state = self.state.lock().unwrap();
        for transaction in transactions {
            let txid = transaction.compute_txid();
            let stale = transaction
                .input
                .iter()
                .any(|i| state.spent.contains(&i.previous_output));
            if !stale
                && state
                    .mempool
                    .iter()
                    .all(|known| known.compute_txid() != txid)
            {
                state.mempool.push((*transaction).clone());
            }
        }
    }
}

impl FeeEstimator for Chain {
    fn get_est_sat_per_1000_weight(&self, target: ConfirmationTarget) -> u32 {
        match target {
            // Not what we'd pay, but what we'd let a peer pay.
            ConfirmationTarget::MaximumFeeEstimate => 100 * FEERATE,
            ConfirmationTarget::AnchorChannelFee | ConfirmationTarget::NonAnchorChannelFee => {
                self.channel_feerate.load(Ordering::Relaxed)
            }
            _ => FEERATE,
        }
    }
}

/// Something must stand first in a block: a channel's short id counts from it.
fn coinbase(height: u32) -> Transaction {
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(height),
        input: vec![TxIn::default()],
        output: vec![TxOut {
            value: Amount::ZERO,
            script_pubkey: ScriptBuf::new(),
        }],
    }
}

fn block(tip: &BestBlock, txdata: Vec<Transaction>) -> Block {
    let genesis = genesis_block(NETWORK).header;
    let mut block = Block {
        header: Header {
            version: BlockVersion::NO_SOFT_FORK_SIGNALLING,
            prev_blockhash: tip.block_hash,
            merkle_root: TxMerkleNode::all_zeros(),
            time: genesis.time + 600 * (tip.height + 1),
            bits: CompactTarget::from_consensus(genesis.bits.to_consensus()),
            nonce: 0,
        },
        txdata,
    };
    block.header.merkle_root = block.compute_merkle_root().expect("a block has a coinbase");
    block
}
