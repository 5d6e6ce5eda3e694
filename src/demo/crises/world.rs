//! The small world of one crisis: a chain, a venue with a handful of people, a database.

use std::{collections::BTreeMap, path::PathBuf, sync::atomic::Ordering};

use alloy::primitives::keccak256;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    super::{
        anvil::{Anvil, AnvilOptions, Mining},
        config::{DEPLOYMENT, KEY_VARIABLE, Keeper, Settings, config_text, protocol},
        daemon::{Daemon, Launch, free_port},
        node::Node,
        play::executable,
        pool::{Membership, Pool, Terms},
        population::populate,
        scenario::{BackstopPlan, MarketPlan, Participant, Scenario, SegmentPlan, Stage, Trade},
        venue::Venue,
    },
    Arena,
    faulty_node::FaultyNode,
};
use crate::{journal::Journal, types::Address};

/// The second venue's deployment.
pub(super) const SISTER: &str = "sister";
/// The variable through which the daemon gets its key.
const SISTER_KEY: &str = "BACKSTOP_DEMO_SISTER_KEY";

/// Segment 1, in which most crises happen.
pub(super) const ONE: u16 = 1;
/// Segment 2.
pub(super) const TWO: u16 = 2;
/// Segment 1's first market: opened at 1,000 a lot.
pub(super) const BTC: u16 = 1;
/// Segment 1's second market: opened at 100 a lot.
pub(super) const ETH: u16 = 2;
/// Segment 2's market: opened at 1,000 a lot.
pub(super) const SOL: u16 = 3;

/// The plan of a venue that joins none.
const NO_POOL: BackstopPlan =
    BackstopPlan { capital: 0, terms: Terms { cap: 1, first_loss_bps: 0, stake: 0, premium: 0 } };

/// Prices, and market, buyer, seller and lots of each trade made at them.
type Chapter = (Vec<(u16, u64)>, Vec<(u16, &'static str, &'static str, u64)>);

/// Who there is, and how their positions come about. Amounts are settlement-token units.
pub(super) struct Cast {
    /// What the funds of segments 1 and 2 hold.
    pub(super) funds: [u128; 2],
    /// Name, segment, deposit.
    pub(super) people: Vec<(&'static str, u16, u128)>,
    /// How the positions came about; only prices that differ from the opening ones are named.
    pub(super) stages: Vec<Chapter>,
    /// Recovery settings that differ from the defaults.
    pub(super) recovery: Option<Value>,
    /// How often the adapter keeps a price to measure by, if not as it does by default.
    pub(super) observe_every_seconds: Option<u64>,
    /// Capital of a shared backstop pool, and the terms on which the venue joins it.
    pub(super) pool: Option<(u64, Terms)>,
    /// The cast of a second venue, guarded by the same daemon as another deployment. It joins the pool of the first.
    pub(super) sister: Option<Box<Cast>>,
}

impl Cast {
    /// alice is 10 BTC long at 1,000 with 1,100, bob 6 short and carol 4 short with 20,000 each; dave has 50,000 and no
    /// position. At 800 alice is 900 short.
    pub(super) fn alice(fund: u128) -> Self {
        Self {
            funds: [fund, 0],
            people: vec![("alice", ONE, 1_100), ("bob", ONE, 20_000), ("carol", ONE, 20_000), ("dave", ONE, 50_000)],
            stages: vec![(vec![], vec![(BTC, "alice", "bob", 6), (BTC, "alice", "carol", 4)])],
            recovery: None,
            observe_every_seconds: None,
            pool: None,
            sister: None,
        }
    }

    fn scenario(&self) -> Scenario {
        let market = |id, symbol, segment, opening_price| MarketPlan {
            id,
            symbol,
            segment,
            opening_price,
            maintenance_margin_bps: 500,
            initial_margin_bps: 1_000,
            slippage_max_bps: 200,
            funding_rate_x18: 0,
            depth_bps: 0,
        };
        let markets =
            vec![market(BTC, "BTC", ONE, 1_000), market(ETH, "ETH", ONE, 100), market(SOL, "SOL", TWO, 1_000)];
        let opening: BTreeMap<u16, u64> = markets.iter().map(|market| (market.id, market.opening_price)).collect();
        let stage = |(prices, trades): &Chapter| {
            let mut all = opening.clone();
            all.extend(prices.iter().copied());
            let trade = |(market, buyer, seller, lots): &(u16, &str, &str, u64)| Trade {
                market: *market,
                buyer: owner(buyer),
                seller: owner(seller),
                lots: *lots,
            };
            Stage { prices: all, trades: trades.iter().map(trade).collect() }
        };
        let mut stages: Vec<Stage> = self.stages.iter().map(stage).collect();
        // In the end everything stands at its opening price.
        stages.push(Stage { prices: opening.clone(), trades: vec![] });
        let person = |(name, segment, deposit): &(&str, u16, u128)| Participant {
            owner: owner(name),
            segment: *segment,
            deposit: *deposit,
        };
        let segments = vec![
            SegmentPlan { id: ONE, insurance_fund: self.funds[0] },
            SegmentPlan { id: TWO, insurance_fund: self.funds[1] },
        ];
        Scenario {
            markets,
            segments,
            backstop: self.pool.map_or(NO_POOL, |(capital, terms)| BackstopPlan { capital, terms }),
            traders: self.people.iter().map(person).collect(),
            makers: vec![],
            stages,
            path: vec![],
        }
    }
}

impl Sister {
    /// Deploys a second venue of the same token and lets its people trade; if the first is in a pool, it joins that.
    async fn raise(node: &Node, first: &Venue, cast: &Cast) -> Result<Self> {
        let keeper = Keeper::new(2)?;
        node.grant(&[keeper.address]).await?;
        let scenario = cast.scenario();
        let mut venue = Venue::deploy_with(node, (first.admin, first.token), keeper.address, &scenario).await?;
        populate(node, &venue, &scenario).await?;
        if let (Some(Membership { pool, .. }), Some((_, terms))) = (first.membership, cast.pool) {
            Pool { address: pool }.admit(node, &mut venue, keeper.address, terms).await?;
        }
        Ok(Self { venue, keeper })
    }

    /// Adds its deployment: the first one's with its own contracts and key.
    fn configure(&self, config: &mut toml::Table) -> Result<()> {
        let deployments = config.get_mut("deployments").and_then(toml::Value::as_table_mut);
        let deployments = deployments.context("no deployments in the configuration")?;
        let mut own = deployments.get(DEPLOYMENT).cloned().context("no first deployment")?;
        let protocol = toml::Value::try_from(protocol(&self.venue)).context("the second venue's settings")?;
        own["protocol"] = protocol;
        own["executor"]["signer"]["variable"] = toml::Value::String(SISTER_KEY.to_owned());
        deployments.insert(SISTER.to_owned(), own);
        Ok(())
    }
}

/// A person's address: a hash, so that it has no key.
pub(super) fn owner(name: &str) -> Address {
    Address::from_slice(&keccak256(format!("crisis {name}"))[12..])
}

/// A second venue with a deployment of its own.
pub(super) struct Sister {
    pub(super) venue: Venue,
    pub(super) keeper: Keeper,
}

/// See the module. Dropped, it is gone.
pub(super) struct World {
    pub(super) node: Node,
    pub(super) venue: Venue,
    pub(super) journal: Journal,
    pub(super) keeper: Keeper,
    pub(super) sister: Option<Sister>,
    pub(super) opening: BTreeMap<u16, u64>,
    recovery: Option<Value>,
    observe_every_seconds: Option<u64>,
    database_url: String,
    ops_port: u16,
    pub(super) folder: PathBuf,
    pub(super) anvil: Anvil,
    /// What stands between the daemon and the chain, if anything does.
    pub(super) front: Option<FaultyNode>,
}

impl World {
    /// Starts the chain, deploys the venue and lets its people trade.
    pub(super) async fn raise(arena: &Arena, name: &str, cast: Cast) -> Result<Self> {
        let folder = arena.folder.join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let number = arena.databases.fetch_add(1, Ordering::Relaxed);
        let database_url =
            arena.postgres.create_database(&format!("crisis_{number}")).await.context("create a database")?;
        let journal = Journal::connect(&database_url, 3).await.context("connect to the journal")?;
        journal.migrate().await.context("migrate the journal")?;
        let anvil = Anvil::start(&AnvilOptions { mining: Mining::OnDemand, ..AnvilOptions::default() }).await?;
        let node = Node::connect(&anvil.http_url())?;
        let (keeper, admin) = (Keeper::new(1)?, owner("the admin"));
        node.adopt(&[admin]).await?;
        node.grant(&[keeper.address]).await?;
        let scenario = cast.scenario();
        let mut venue = Venue::deploy(&node, admin, keeper.address, &scenario).await?;
        populate(&node, &venue, &scenario).await?;
        if cast.pool.is_some() {
            let pool = Pool::deploy(&node, &venue, scenario.backstop.capital).await?;
            pool.admit(&node, &mut venue, keeper.address, scenario.backstop.terms).await?;
        }
        let sister = match &cast.sister {
            Some(cast) => Some(Sister::raise(&node, &venue, cast).await?),
            None => None,
        };
        Ok(Self {
            node,
            venue,
            journal,
            keeper,
            sister,
            opening: scenario.stages.last().map(|stage| stage.prices.clone()).unwrap_or_default(),
            recovery: cast.recovery,
            observe_every_seconds: cast.observe_every_seconds,
            database_url,
            ops_port: free_port()?,
            folder,
            anvil,
            front: None,
        })
    }

    /// Writes the daemon's configuration, with these recovery settings or those of the cast.
    pub(super) fn configure(&self, recovery: Option<&Value>) -> Result<PathBuf> {
        self.configure_at("backstop.toml", self.ops_port, recovery)
    }

    fn configure_at(&self, file: &str, ops_port: u16, recovery: Option<&Value>) -> Result<PathBuf> {
        let text = config_text(&Settings {
            database_url: &self.database_url,
            rpc_url: &self.front.as_ref().map_or_else(|| self.anvil.ws_url(), |front| front.url().to_owned()),
            chain_id: AnvilOptions::default().chain_id,
            venue: &self.venue,
            ops_port,
            recovery: recovery.or(self.recovery.as_ref()),
        })?;
        let mut config: toml::Table = text.parse().context("read the configuration back")?;
        if let Some(seconds) = self.observe_every_seconds {
            let seconds = i64::try_from(seconds).context("a pace beyond 63 bits")?;
            config["deployments"][DEPLOYMENT]["protocol"]
                .as_table_mut()
                .context("no protocol settings")?
                .insert("observe_every_seconds".to_owned(), toml::Value::Integer(seconds));
        }
        if self.front.is_some() {
            // Nobody tells of new blocks there.
            config["deployments"][DEPLOYMENT]["rpc"]["poll_interval_ms"] = toml::Value::Integer(50);
        }
        if let Some(sister) = &self.sister {
            sister.configure(&mut config)?;
        }
        let text = toml::to_string_pretty(&config).context("write the configuration")?;
        let path = self.folder.join(file);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Starts the daemon.
    pub(super) fn start_daemon(&self) -> Result<Daemon> {
        self.launch(self.configure(None)?, self.ops_port, "daemon.log")
    }

    /// Starts a second daemon on the same configuration but for its port.
    pub(super) fn start_replica(&self) -> Result<Daemon> {
        let ops_port = free_port()?;
        self.launch(self.configure_at("replica.toml", ops_port, None)?, ops_port, "replica.log")
    }

    fn launch(&self, config: PathBuf, ops_port: u16, log: &str) -> Result<Daemon> {
        let mut environment = vec![(KEY_VARIABLE.to_owned(), self.keeper.key.to_string())];
        let sister = self.sister.as_ref().map(|sister| (SISTER_KEY.to_owned(), sister.keeper.key.to_string()));
        environment.extend(sister);
        Daemon::start(Launch { executable: executable()?, config, log: self.folder.join(log), ops_port, environment })
    }

    /// What a command of the operator's answers, run beside the daemon on the same configuration.
    pub(super) async fn ask(&self, command: &str, arguments: &[&str]) -> Result<String> {
        let output = tokio::process::Command::new(executable()?)
            .arg(command)
            .arg("--config")
            .arg(self.folder.join("backstop.toml"))
            .args(arguments)
            .env(KEY_VARIABLE, self.keeper.key.to_string())
            .envs(self.sister.as_ref().map(|sister| (SISTER_KEY, sister.keeper.key.to_string())))
            .env_remove("DATABASE_URL")
            .output()
            .await
            .with_context(|| format!("run {command}"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{command} fails: {said}");
        String::from_utf8(output.stdout).with_context(|| format!("{command} answers no text"))
    }

    /// Moves the chain's clock on, so that the next block is so many seconds after the last.
    pub(super) async fn set_next_timestamp(&self, timestamp: u64) -> Result<()> {
        Ok(self.anvil.set_next_timestamp(timestamp).await?)
    }
}
