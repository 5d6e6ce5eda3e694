//! An event: rounds of markets that need lots, the winners there, and waves for the severity forecast. Read from files
//! of gzip CSV (`demand`, `candidates`, `paper_wave_coin`), columns by name.

use std::{
    collections::{BTreeMap, HashMap},
    io::Read,
    path::Path,
};

use anyhow::{Context, Result, bail};
use backstop::{
    recovery::Candidate,
    types::{MarketId, U256, UnitKey},
};

use crate::money::{DECIMALS, scaled, usd};

#[derive(Clone)]
pub struct Event {
    pub name: String,
    pub rounds: Vec<Round>,
    pub waves: Vec<Vec<WaveMarket>>,
}

/// Markets that need lots at the same instant.
#[derive(Clone, Default)]
pub struct Round {
    pub markets: Vec<Market>,
    /// Distinct accounts: rows refer to them by index.
    pub accounts: usize,
}

#[derive(Clone)]
pub struct Market {
    /// Lots to close.
    pub lots: U256,
    /// What a lot loses.
    pub gap: U256,
    pub candidates: Vec<Candidate>,
    /// One for each candidate.
    pub rows: Vec<Row>,
}

/// What the record says of a candidate beside what a policy may see.
#[derive(Clone, Copy)]
pub struct Row {
    pub account: usize,
    pub equity: U256,
    /// Whether the equity is known; otherwise it is a floor and burdens of it mean little.
    pub known: bool,
    /// Lots that the venue closed in fact.
    pub recorded: U256,
}

/// One market of a wave of forced closing.
#[derive(Clone, Copy)]
pub struct WaveMarket {
    pub market: MarketId,
    pub contracts: f64,
    /// USD a contract.
    pub gap: f64,
    pub notional: U256,
    pub loss: U256,
}

impl Market {
    pub fn loss(&self) -> U256 {
        self.gap * self.lots
    }
}

impl Event {
    pub fn rows(&self) -> usize {
        self.rounds.iter().flat_map(|round| &round.markets).map(|market| market.rows.len()).sum()
    }

    pub fn markets(&self) -> usize {
        self.rounds.iter().map(|round| round.markets.len()).sum()
    }

    pub fn budget_usd(&self) -> f64 {
        self.rounds.iter().flat_map(|round| &round.markets).map(|market| usd(market.loss())).sum()
    }

    pub fn read(folder: &Path) -> Result<Self> {
        let demand = Table::read(folder, "demand")?;
        let mut markets = BTreeMap::new();
        let mut notionals: HashMap<(String, String), U256> = HashMap::new();
        for line in demand.lines() {
            let lot_decimals: u32 = line.text("lot_dec")?.parse()?;
            let lots: U256 = line.text("demand_lots")?.parse()?;
            let gap = line.scaled("gap_per_contract", DECIMALS - lot_decimals)?;
            let lot_price = line.scaled("price", DECIMALS - lot_decimals)?;
            let wave_coin = (line.text("wave")?.to_owned(), line.text("coin")?.to_owned());
            *notionals.entry(wave_coin).or_default() += line.scaled("notional", DECIMALS)?;
            if !lots.is_zero() {
                let round: u32 = line.text("round")?.parse()?;
                let market = Market { lots, gap, candidates: Vec::new(), rows: Vec::new() };
                markets.insert((round, line.text("coin")?.to_owned()), (market, lot_price));
            }
        }
        let mut accounts: HashMap<(u32, String), usize> = HashMap::new();
        let mut counts: HashMap<u32, usize> = HashMap::new();
        for line in Table::read(folder, "candidates")?.lines() {
            let round: u32 = line.text("round")?.parse()?;
            let Some((market, lot_price)) = markets.get_mut(&(round, line.text("coin")?.to_owned())) else { continue };
            let name = line.text("acct")?;
            let account = *accounts.entry((round, name.to_owned())).or_insert_with(|| {
                let count = counts.entry(round).or_default();
                *count += 1;
                *count - 1
            });
            let (candidate, row) = winner(&line, account, *lot_price)?;
            market.candidates.push(candidate);
            market.rows.push(row);
        }
        let mut rounds: BTreeMap<u32, Round> = BTreeMap::new();
        for ((round, coin), (market, _)) in markets {
            if market.rows.is_empty() {
                bail!("demand of {coin} in round {round} has no candidates");
            }
            let accounts = counts.get(&round).copied().unwrap_or_default();
            rounds.entry(round).or_insert_with(|| Round { markets: Vec::new(), accounts }).markets.push(market);
        }
        let waves = read_waves(folder, &notionals)?;
        Ok(Self { name: folder.display().to_string(), rounds: rounds.into_values().collect(), waves })
    }
}

/// One line of `candidates`. All of the record are taken for shorts, as its entries are.
fn winner(line: &Line<'_>, account: usize, lot_price: U256) -> Result<(Candidate, Row)> {
    let lots: U256 = line.text("pos_lots")?.parse()?;
    let (profit, equity) = (line.scaled("upnl", DECIMALS)?, line.scaled("equity_est", DECIMALS)?);
    let candidate = Candidate {
        unit: UnitKey::new(line.text("acct")?.as_bytes().to_vec())?,
        short: true,
        lots,
        lots_max: lots,
        profit,
        capacity: equity,
        notional: lots * lot_price,
        equity,
        borne: U256::ZERO,
    };
    let known = line.text("equity_floor")? != "True";
    Ok((candidate, Row { account, equity, known, recorded: line.text("prod_close_lots")?.parse()? }))
}

/// Waves in order, with what each closed in each coin.
fn read_waves(folder: &Path, notionals: &HashMap<(String, String), U256>) -> Result<Vec<Vec<WaveMarket>>> {
    let mut waves: BTreeMap<u32, Vec<WaveMarket>> = BTreeMap::new();
    let mut ids: HashMap<String, u32> = HashMap::new();
    for line in Table::read(folder, "paper_wave_coin")?.lines() {
        let (wave, coin) = (line.text("wave")?.to_owned(), line.text("coin")?.to_owned());
        let next = u32::try_from(ids.len())?;
        let market = MarketId(*ids.entry(coin.clone()).or_insert(next));
        let notional = *notionals
            .get(&(wave.clone(), coin.clone()))
            .with_context(|| format!("paper_wave_coin has {coin} in wave {wave}, demand has not"))?;
        waves.entry(wave.parse()?).or_default().push(WaveMarket {
            market,
            contracts: line.text("qty_contracts")?.parse()?,
            gap: line.text("gap_per_contract_usd")?.parse()?,
            notional,
            loss: line.scaled("gap_usd_x_qty", DECIMALS)?,
        });
    }
    Ok(waves.into_values().collect())
}

/// A CSV file without quoted fields.
struct Table {
    name: String,
    columns: Vec<String>,
    text: String,
}

struct Line<'a> {
    table: &'a Table,
    fields: Vec<&'a str>,
}

impl Table {
    fn read(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(format!("{name}.csv.gz"));
        let file = std::fs::File::open(&path).with_context(|| format!("{} cannot be opened", path.display()))?;
        let mut text = String::new();
        flate2::read::GzDecoder::new(file)
            .read_to_string(&mut text)
            .with_context(|| format!("{} is not a gzip text", path.display()))?;
        let columns = text.lines().next().unwrap_or_default().split(',').map(str::to_owned).collect();
        Ok(Self { name: name.to_owned(), columns, text })
    }

    fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.text.lines().skip(1).map(|line| Line { table: self, fields: line.split(',').collect() })
    }
}

impl<'a> Line<'a> {
    fn text(&self, column: &str) -> Result<&'a str> {
        let index = self.table.columns.iter().position(|name| name == column);
        let field = index.and_then(|index| self.fields.get(index));
        field.copied().with_context(|| format!("{} has no column {column} in some line", self.table.name))
    }

    fn scaled(&self, column: &str, decimals: u32) -> Result<U256> {
        scaled(self.text(column)?, decimals).with_context(|| format!("{}.{column}", self.table.name))
    }
}
