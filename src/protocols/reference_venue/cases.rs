//! One segment of a snapshot, in the neutral terms a plan is made from.
//!
//! Invariants: every figure is exact and true of the snapshot's block; a segment whose money cannot move now, because a
//! price that somebody's position depends on is missing, too old or ahead of the chain, is marked as blocked.
//! Must not: choose what to do.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Settings, depth,
    margin::{Account, MarketNow, perps},
    measures,
    state::{self, Bounds, Market, Moves, Order, Segment},
};
use crate::{
    positions::{Leg, Snapshot, Unit},
    recovery::{
        DistressedUnit, FundState, Holder, MarginBounds, MarketCase, Measures, Position, SegmentCase, SolventUnit,
    },
    scanner::{Condition, ScanReport, Unvalued},
    types::{MarketId, SegmentId, U256, UnitKey},
};

/// Cases of the segments in which the report has a distressed unit, or of all.
pub(super) fn cases(
    settings: &Settings,
    snapshot: &Snapshot,
    report: &ScanReport,
    every: bool,
) -> BTreeMap<SegmentId, SegmentCase> {
    let distressed = |segment: SegmentId| {
        let found = report.findings.iter().filter(move |f| f.segment == segment);
        found.filter(|f| matches!(f.condition, Condition::Bankrupt | Condition::Liquidatable)).map(|f| &f.unit)
    };
    let mut views: BTreeMap<SegmentId, View<'_>> = BTreeMap::new();
    for (id, segment) in state::all::<Segment>(&snapshot.book) {
        let Some(number) = state::number(id) else { continue };
        let segment_id = state::segment_id(number);
        let measures = measures::measures(settings, snapshot, number);
        let due = measures.is_due(snapshot.block.number, segment.fund.saturating_sub(segment.floor));
        if every || due || distressed(segment_id).next().is_some() {
            let mut view = View::new(snapshot, segment_id, segment);
            view.measures = measures;
            views.insert(segment_id, view);
        }
    }
    for (id, market) in state::all::<Market>(&snapshot.book) {
        if let (Some(view), Some(id)) = (views.get_mut(&state::segment_id(market.segment)), state::number(id)) {
            view.add_market(MarketId(id), market);
        }
    }
    for (key, unit) in snapshot.book.units() {
        if let Some(view) = views.get_mut(&unit.segment) {
            view.add_unit(key, unit);
        }
    }
    for (id, order) in state::all::<Order>(&snapshot.book) {
        let market = state::market_id(order.market);
        let view = views.values_mut().find(|view| view.markets.contains_key(&market));
        if let (Some(view), Some(id)) = (view, state::number(id)) {
            view.orders.push((id, order));
        }
    }
    views.into_iter().map(|(id, view)| (id, view.case(settings, distressed(id)))).collect()
}

/// An account with what it is worth.
pub(super) struct Valued<'a> {
    pub(super) unit: &'a Unit,
    pub(super) account: Account,
}

/// A segment as it is gathered from the book.
struct View<'a> {
    snapshot: &'a Snapshot,
    id: SegmentId,
    segment: Segment,
    markets: BTreeMap<MarketId, MarketNow>,
    /// Markets that cannot be valued now.
    unpriced: BTreeMap<MarketId, Unvalued>,
    accounts: BTreeMap<&'a UnitKey, Valued<'a>>,
    /// Markets in which somebody holds lots.
    held: BTreeSet<MarketId>,
    orders: Vec<(u64, Order)>,
    measures: Measures,
}

impl<'a> View<'a> {
    fn new(snapshot: &'a Snapshot, id: SegmentId, segment: Segment) -> Self {
        Self {
            snapshot,
            id,
            segment,
            markets: BTreeMap::new(),
            unpriced: BTreeMap::new(),
            accounts: BTreeMap::new(),
            held: BTreeSet::new(),
            orders: Vec::new(),
            measures: Measures::default(),
        }
    }

    fn add_market(&mut self, id: MarketId, market: Market) {
        match MarketNow::of(self.snapshot, id, market) {
            Ok(now) => {
                self.markets.insert(id, now);
            }
            Err(why) => {
                self.unpriced.insert(id, why);
            }
        }
    }

    /// Takes a unit in; one that cannot be valued is neither distressed nor solvent here, the scan reports it.
    fn add_unit(&mut self, key: &'a UnitKey, unit: &'a Unit) {
        self.held.extend(perps(unit).map(|leg| leg.market));
        let market = |id: MarketId| {
            self.markets
                .get(&id)
                .ok_or_else(|| Unvalued::Missing(format!("market {id} of segment {}", self.id)))
                .cloned()
        };
        if let Ok(account) = Account::of(unit, market) {
            self.accounts.insert(key, Valued { unit, account });
        }
    }

    fn case<'r>(self, settings: &Settings, distressed: impl Iterator<Item = &'r UnitKey>) -> SegmentCase {
        let Segment { fund, floor } = self.segment;
        SegmentCase {
            segment: self.id,
            block: self.snapshot.block,
            fund: FundState { balance: fund, spendable: fund.saturating_sub(floor) },
            markets: self.market_cases(settings),
            distressed: distressed.filter_map(|key| self.distressed(key)).collect(),
            solvent: self.accounts.iter().filter_map(|(key, v)| Some(((*key).clone(), self.solvent(v)?))).collect(),
            blocked: self.blocked(),
            measures: self.measures,
            offered: None,
        }
    }

    /// The first market in which lots are held at a price that moves no money.
    fn blocked(&self) -> Option<String> {
        let now = self.snapshot.block.timestamp;
        self.held.iter().find_map(|id| match self.markets.get(id) {
            Some(market) if market.is_fresh(now) => None,
            Some(market) => Some(format!(
                "price of market {id} is of second {}, the block of second {now}; at most {} s may lie between",
                market.updated_at, market.market.max_price_age_seconds
            )),
            None => Some(match self.unpriced.get(id) {
                Some(why) => format!("market {id} cannot be valued: {why}"),
                None => format!("positions in market {id}, which is not of this segment"),
            }),
        })
    }

    fn market_cases(&self, settings: &Settings) -> BTreeMap<MarketId, MarketCase> {
        let mut depths = depth::depth(&self.markets, &self.accounts, self.id, &self.orders);
        let case = |(&id, now): (&MarketId, &MarketNow)| {
            let depth = depths.remove(&id).unwrap_or_default();
            let case = MarketCase {
                mark_price: now.price,
                funding_index: now.funding_index,
                maintenance_margin_bps: now.market.maintenance_margin_bps.into(),
                initial_margin_bps: now.market.initial_margin_bps.into(),
                liquidation_fee_bps: now.market.liquidation_fee_bps.into(),
                buys: depth.buys,
                sells: depth.sells,
                holders: self.holders(id),
                margin_bounds: self.margin_bounds(settings, id),
            };
            (id, case)
        };
        self.markets.iter().map(case).collect()
    }

    fn holders(&self, market: MarketId) -> BTreeMap<UnitKey, Holder> {
        let holder = |valued: &Valued<'_>| {
            let leg = perps(valued.unit).find(|leg| leg.market == market)?;
            Some(Holder { lots: leg.quantity.unsigned_abs(), surplus: valued.account.surplus().ok()? })
        };
        self.accounts.iter().filter_map(|(key, valued)| Some(((*key).clone(), holder(valued)?))).collect()
    }

    /// How far the steward lets the margin move; `None` without a steward or bounds.
    fn margin_bounds(&self, settings: &Settings, market: MarketId) -> Option<MarginBounds> {
        settings.steward?;
        let bounds: Bounds = state::load(&self.snapshot.book, market.0.into()).ok()?;
        let moves: Moves = state::load(&self.snapshot.book, market.0.into()).unwrap_or_default();
        let moved = moves.margin_at;
        Some(MarginBounds {
            step_bps_max: bounds.max_step_bps.into(),
            floor_bps: bounds.margin_floor_bps.into(),
            ceiling_bps: bounds.margin_ceiling_bps.into(),
            earliest: if moved == 0 { 0 } else { moved.saturating_add(bounds.min_delay_seconds) },
        })
    }

    fn distressed(&self, key: &UnitKey) -> Option<DistressedUnit> {
        let valued = self.accounts.get(key)?;
        let account = &valued.account;
        let positions = self.positions(valued.unit)?;
        let liquidatable = |p: &Position| Some((p.market, account.liquidatable_lots(p.lots.unsigned_abs()).ok()?));
        let liquidatable_lots: BTreeMap<MarketId, U256> = positions.iter().filter_map(liquidatable).collect();
        let distressed = account.surplus().ok()?.is_negative();
        distressed.then(|| DistressedUnit {
            unit: key.clone(),
            cash: account.cash,
            equity: account.equity,
            maintenance_margin: account.maintenance_margin,
            positions,
            liquidatable_lots,
        })
    }

    fn solvent(&self, valued: &Valued<'_>) -> Option<SolventUnit> {
        let Account { equity, .. } = valued.account;
        let surplus = valued.account.surplus().ok()?;
        let solvent = equity.is_positive() && !surplus.is_negative();
        if !solvent {
            return None;
        }
        Some(SolventUnit { equity, surplus, positions: self.positions(valued.unit)? })
    }

    fn positions(&self, unit: &Unit) -> Option<Vec<Position>> {
        let position = |leg: &Leg| {
            let pnl = self.markets.get(&leg.market)?.pnl(leg).ok()?;
            Some(Position { market: leg.market, lots: leg.quantity, quote: leg.quote, pnl })
        };
        perps(unit).map(position).collect()
    }
}
