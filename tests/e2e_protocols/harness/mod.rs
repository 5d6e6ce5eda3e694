//! End to end on real contracts: what every protocol's test shares.
//!
//! # How a protocol's test is written
//!
//! 1. `tools/protocols/packages.json` pins its npm packages and says what to compile; our own doubles (Solidity) lie in
//!    `tools/protocols/<name>/*.sol`. `tools/setup.sh protocols <name>` brings and compiles all that.
//! 2. `tools/protocols/<name>.mjs` deploys it: `import { options, connect, deploy, sent, answer } from './chain.mjs'` and
//!    `contracts('<name>')` or `artifact('@scope/package/…json')` from `./build.mjs`. It gets `--rpc --keeper --accounts
//!    --seed`, may use the node's ten accounts (blocks are mined at each transaction meanwhile) and prints one JSON object:
//!    addresses, and whatever the test needs. It gives the keeper its tokens; the harness gives it native currency.
//! 3. `tests/e2e_protocols/<name>.rs` implements [`Playground`] and ends in one test:
//!
//!    ```ignore
//!    #[tokio::test]
//!    async fn the_daemon_keeps_up() {
//!        harness::play::<AaveV3>(Story::default()).await;
//!    }
//!    ```
//!
//!    The folder's `main.rs` names the module; the module's name is the adapter's word, so that
//!    `make e2e PROTOCOL=<name>` finds it.
//!
//! # What is played
//!
//! [`play`] starts Postgres and anvil, runs the deploy script, lets [`Playground::populate`] fill the protocol, and starts
//! the daemon with a configuration of [`Playground::protocol`] and [`Playground::deployment`]. Then it makes blocks: calm
//! ones with [`Playground::act`], then the steps of the crash with [`Playground::crash`], each with a few blocks to react,
//! then quiet ones until nothing is liquidatable and [`Playground::unfinished`] is `None`. A block is made when the
//! daemon's pass over the one before is over (`/readyz` says which block was scanned last), at the latest after
//! [`Story::patience`]: what it sends for a head is in the pool when the next block is made, and goes before the messages
//! of others in that block, since those tip nothing.
//!
//! After every block the chain is asked about every account ([`Playground::liquidatable`]); [`ledger`] counts from that
//! what was missed and what was wrongly sent. At every tenth block the daemon's cache is loaded from its database and each
//! account's standing held against [`Playground::expected`], and every probe of the adapter against the chain. The report
//! goes to `target/e2e/<name>.json`, the daemon's log and configuration beside it to `target/e2e/<name>/`.
//!
//! Invariants: the chain is the judge; the daemon is only ever the accused. Everything that is started ends with the test.
//! Must not: share eyes with the daemon (its `chain` stage), or know a protocol.

mod check;
mod ledger;
mod playground;
mod report;
mod rng;
mod runner;
mod stage;

#[allow(unused_imports, reason = "for protocols to come")]
pub(crate) use playground::{Accounting, Expected, KeeperTransaction, Playground};
#[allow(unused_imports, reason = "for protocols to come")]
pub(crate) use rng::Rng;
#[allow(unused_imports, reason = "for protocols to come")]
pub(crate) use runner::{Story, play};
#[allow(unused_imports, reason = "for protocols to come")]
pub(crate) use stage::Stage;
