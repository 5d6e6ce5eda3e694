//! The market's shared state as the cache's records hold it, and how its accounts are named.
//!
//! | kind | id | words |
//! |---|---|---|
//! | 1 registry | 0 | oracle, sentinel, umbrella (addresses, 0 = none); not there before it was read |
//! | 2 reserve | its number in the pool's list | asset, aToken, debt token, configuration, supply index, supply rate, debt index, debt rate (ray each), indexes of (Unix s), grace period until (Unix s), deficit, liquidity (asset units), scaled supply, scaled debt |
//! | 3 token | address | reserve, role: 0 asset, 1 aToken, 2 debt token |
//! | 4 e-mode category | its number | ltv, liquidation threshold, liquidation bonus (bps), bitmaps of reserves: collateral, borrowable, ltv zero |
//! | 5 price | reserve | 1 if the oracle answers, price (base currency, 8 decimals) |
//! | 6 sentinel | 0 | 1 if it allows liquidation |
//!
//! A unit's key is the account's twenty bytes, its segment always 0: the pool is one book. Legs: one per reserve supplied
//! (`Collateral` where it backs debt, else `Supply`) and one per reserve owed, in scaled units. `extra` holds the e-mode
//! category and the bitmap of reserves flagged as collateral, which may be flagged without a balance; it is empty where
//! both are 0.
//!
//! Invariants: as of every view of records.
//! Must not: know events or calls.

use super::config::Config;
use crate::{
    positions::{Leg, LegKind, Record, Unit},
    protocols::records::{Stored, address_word, word_address},
    types::{Address, I256, MarketId, SegmentId, U256, UnitKey},
};

/// The pool's one segment.
pub(super) const SEGMENT: SegmentId = SegmentId(0);
/// The pool's own limit, `ReserveConfiguration.MAX_RESERVES_COUNT`.
pub(super) const RESERVES_MAX: u32 = 128;

/// What the registry names that may change at run time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Registry {
    /// The price oracle.
    pub(super) oracle: Address,
    /// The sentinel, zero without one.
    pub(super) sentinel: Address,
    /// Who may cover deficits, zero if nobody.
    pub(super) umbrella: Address,
}

impl Stored for Registry {
    const KIND: u16 = 1;
    const NAME: &'static str = "registry";

    fn to_record(&self) -> Record {
        [self.oracle, self.sentinel, self.umbrella].map(address_word).into()
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[oracle, sentinel, umbrella] = words else { return None };
        Some(Self {
            oracle: word_address(oracle)?,
            sentinel: word_address(sentinel)?,
            umbrella: word_address(umbrella)?,
        })
    }
}

/// A reserve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reserve {
    /// The token that is supplied and borrowed.
    pub(super) asset: Address,
    /// The supplier's receipt.
    pub(super) a_token: Address,
    /// The borrower's.
    pub(super) debt_token: Address,
    /// Its configuration; without decimals before it was read.
    pub(super) config: Config,
    /// Supply index at `updated_at`, ray.
    pub(super) supply_index: U256,
    /// Yearly supply rate, ray.
    pub(super) supply_rate: U256,
    /// Debt index at `updated_at`, ray.
    pub(super) debt_index: U256,
    /// Yearly debt rate, ray.
    pub(super) debt_rate: U256,
    /// Unix seconds; 0 before the first action.
    pub(super) updated_at: u64,
    /// Last Unix second in which nothing of it is liquidated; 0: none.
    pub(super) grace_until: u64,
    /// Bad debt booked and not covered, asset units.
    pub(super) deficit: U256,
    /// Virtual underlying balance: what can be taken out, asset units.
    pub(super) liquidity: U256,
    /// Σ scaled aToken balances.
    pub(super) scaled_supply: U256,
    /// Σ scaled debt token balances.
    pub(super) scaled_debt: U256,
}

impl Stored for Reserve {
    const KIND: u16 = 2;
    const NAME: &'static str = "reserve";

    fn to_record(&self) -> Record {
        vec![
            address_word(self.asset),
            address_word(self.a_token),
            address_word(self.debt_token),
            self.config.0,
            self.supply_index,
            self.supply_rate,
            self.debt_index,
            self.debt_rate,
            U256::from(self.updated_at),
            U256::from(self.grace_until),
            self.deficit,
            self.liquidity,
            self.scaled_supply,
            self.scaled_debt,
        ]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[
            asset,
            a_token,
            debt_token,
            config,
            supply_index,
            supply_rate,
            debt_index,
            debt_rate,
            updated_at,
            grace_until,
            deficit,
            liquidity,
            scaled_supply,
            scaled_debt,
        ] = words
        else {
            return None;
        };
        Some(Self {
            asset: word_address(asset)?,
            a_token: word_address(a_token)?,
            debt_token: word_address(debt_token)?,
            config: Config(config),
            supply_index,
            supply_rate,
            debt_index,
            debt_rate,
            updated_at: updated_at.try_into().ok()?,
            grace_until: grace_until.try_into().ok()?,
            deficit,
            liquidity,
            scaled_supply,
            scaled_debt,
        })
    }
}

/// What a token is to its reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// What is supplied and borrowed.
    Asset,
    /// The supplier's receipt.
    Supply,
    /// The borrower's.
    Debt,
}

/// Which reserve a token belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// The reserve's number.
    pub(super) reserve: u32,
    /// As what.
    pub(super) role: Role,
}

impl Stored for Token {
    const KIND: u16 = 3;
    const NAME: &'static str = "token";

    fn to_record(&self) -> Record {
        let role = match self.role {
            Role::Asset => 0u8,
            Role::Supply => 1,
            Role::Debt => 2,
        };
        vec![U256::from(self.reserve), U256::from(role)]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[reserve, role] = words else { return None };
        let role = match u8::try_from(role).ok()? {
            0 => Role::Asset,
            1 => Role::Supply,
            2 => Role::Debt,
            _ => return None,
        };
        Some(Self { reserve: reserve.try_into().ok()?, role })
    }
}

/// An e-mode category. Its parameters replace a reserve's for reserves in its collateral bitmap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Category {
    /// Loan to value, bps.
    pub(super) ltv: U256,
    /// Liquidation threshold, bps.
    pub(super) threshold: U256,
    /// Liquidation bonus, bps, 10,000 and more.
    pub(super) bonus: U256,
    /// Reserves it holds for as collateral.
    pub(super) collateral: U256,
    /// Reserves that may be borrowed in it.
    pub(super) borrowable: U256,
    /// Reserves whose loan to value is 0 in it.
    pub(super) ltv_zero: U256,
}

impl Category {
    /// Whether its parameters hold for this reserve as collateral.
    pub(super) fn covers(&self, reserve: u32) -> bool {
        has(self.collateral, reserve)
    }
}

impl Stored for Category {
    const KIND: u16 = 4;
    const NAME: &'static str = "e-mode category";

    fn to_record(&self) -> Record {
        vec![self.ltv, self.threshold, self.bonus, self.collateral, self.borrowable, self.ltv_zero]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[ltv, threshold, bonus, collateral, borrowable, ltv_zero] = words else { return None };
        Some(Self { ltv, threshold, bonus, collateral, borrowable, ltv_zero })
    }
}

/// What the oracle says of a reserve's asset; `None` where it reverts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Price(pub(super) Option<U256>);

impl Stored for Price {
    const KIND: u16 = 5;
    const NAME: &'static str = "price of reserve";

    fn to_record(&self) -> Record {
        vec![U256::from(self.0.is_some()), self.0.unwrap_or_default()]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[known, price] = words else { return None };
        let known = flag(known)?;
        (known || price.is_zero()).then(|| Self(known.then_some(price)))
    }
}

/// What the sentinel says; a sentinel that reverts allows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sentinel {
    /// Whether accounts at a health factor of 0.95 and more may be liquidated.
    pub(super) allows_liquidation: bool,
}

impl Stored for Sentinel {
    const KIND: u16 = 6;
    const NAME: &'static str = "sentinel";

    fn to_record(&self) -> Record {
        vec![U256::from(self.allows_liquidation)]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[allows] = words else { return None };
        Some(Self { allows_liquidation: flag(allows)? })
    }
}

fn flag(word: U256) -> Option<bool> {
    match u8::try_from(word).ok()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// Whether a bitmap has this reserve.
pub(super) fn has(bitmap: U256, reserve: u32) -> bool {
    usize::try_from(reserve).is_ok_and(|at| bitmap.bit(at))
}

/// The bitmap with or without this reserve.
pub(super) fn with(bitmap: U256, reserve: u32, on: bool) -> U256 {
    let bit = U256::ONE << reserve;
    if on { bitmap | bit } else { bitmap & !bit }
}

/// The reserves of a bitmap, by number.
pub(super) fn members(bitmap: U256) -> impl Iterator<Item = u32> {
    (0..RESERVES_MAX).filter(move |reserve| has(bitmap, *reserve))
}

/// An account's unit with what `extra` says, readable by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    /// E-mode category, 0: none.
    pub(super) category: u8,
    /// Reserves flagged as collateral.
    pub(super) collateral: U256,
}

impl Flags {
    /// A unit's flags; `None` where `extra` is of another form.
    pub(super) fn of(unit: &Unit) -> Option<Self> {
        match unit.extra[..] {
            [] => Some(Self::default()),
            [category, collateral] => Some(Self { category: category.try_into().ok()?, collateral }),
            _ => None,
        }
    }

    /// As `extra` holds them.
    pub(super) fn to_extra(self) -> Record {
        if self == Self::default() { Vec::new() } else { vec![U256::from(self.category), self.collateral] }
    }
}

/// What an account holds of a reserve's aToken, scaled.
pub(super) fn supplied(unit: &Unit, reserve: u32) -> U256 {
    let of = |kind| unit.leg(MarketId(reserve), kind).map_or(U256::ZERO, magnitude);
    of(LegKind::Collateral) + of(LegKind::Supply)
}

/// What an account owes of a reserve, scaled.
pub(super) fn owed(unit: &Unit, reserve: u32) -> U256 {
    unit.leg(MarketId(reserve), LegKind::Debt).map_or(U256::ZERO, magnitude)
}

/// A leg's scaled amount; legs of this protocol are never negative.
pub(super) fn magnitude(leg: &Leg) -> U256 {
    leg.quantity.unsigned_abs()
}

/// Puts a scaled aToken balance into the leg that its collateral flag says.
pub(super) fn set_supplied(unit: &mut Unit, reserve: u32, scaled: I256, is_collateral: bool) {
    let (held, other) = match is_collateral {
        true => (LegKind::Collateral, LegKind::Supply),
        false => (LegKind::Supply, LegKind::Collateral),
    };
    unit.set_leg(leg(reserve, held, scaled));
    unit.set_leg(leg(reserve, other, I256::ZERO));
}

/// Puts a scaled debt.
pub(super) fn set_owed(unit: &mut Unit, reserve: u32, scaled: I256) {
    unit.set_leg(leg(reserve, LegKind::Debt, scaled));
}

fn leg(reserve: u32, kind: LegKind, quantity: I256) -> Leg {
    Leg { market: MarketId(reserve), kind, quantity, quote: I256::ZERO }
}

/// The key of an account.
pub(super) fn unit_key(account: Address) -> UnitKey {
    UnitKey::new(account.to_vec()).expect("invariant: 20 bytes are a unit key")
}

/// The account of a key, `None` if it is no key of this protocol.
pub(super) fn account_of(key: &UnitKey) -> Option<Address> {
    Address::try_from(key.as_bytes()).ok()
}
