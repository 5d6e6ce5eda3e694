//! Fixed-point and share arithmetic of the singleton's MathLib, SharesMathLib and UtilsLib.
//!
//! Shares carry 10⁶ virtual ones and one virtual asset, so that an empty market has a price.
//!
//! Invariants: every result equals the library's to the last unit; `None` is where the library reverts, also where a
//! product does not fit 256 bits.
//! Must not: use floating point.

use crate::types::U256;

/// 1 in the protocol's fixed point.
pub(super) const WAD: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);

const VIRTUAL_SHARES: U256 = U256::from_limbs([1_000_000, 0, 0, 0]);
const VIRTUAL_ASSETS: U256 = U256::ONE;

/// ⌊x · y / d⌋.
pub(super) fn mul_div_down(x: U256, y: U256, d: U256) -> Option<U256> {
    x.checked_mul(y)?.checked_div(d)
}

/// ⌈x · y / d⌉.
pub(super) fn mul_div_up(x: U256, y: U256, d: U256) -> Option<U256> {
    x.checked_mul(y)?.checked_add(d.checked_sub(U256::ONE)?)?.checked_div(d)
}

/// What shares are converted by: one side of a market's totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pool {
    /// Token units.
    pub(super) assets: U256,
    /// Parts of them.
    pub(super) shares: U256,
}

impl Pool {
    /// Shares that the assets are worth, rounded down.
    pub(super) fn shares_down(&self, assets: U256) -> Option<U256> {
        mul_div_down(assets, self.virtual_shares()?, self.virtual_assets()?)
    }

    /// Shares that the assets are worth, rounded up.
    pub(super) fn shares_up(&self, assets: U256) -> Option<U256> {
        mul_div_up(assets, self.virtual_shares()?, self.virtual_assets()?)
    }

    /// Assets that the shares are worth, rounded down.
    pub(super) fn assets_down(&self, shares: U256) -> Option<U256> {
        mul_div_down(shares, self.virtual_assets()?, self.virtual_shares()?)
    }

    /// Assets that the shares are worth, rounded up.
    pub(super) fn assets_up(&self, shares: U256) -> Option<U256> {
        mul_div_up(shares, self.virtual_assets()?, self.virtual_shares()?)
    }

    /// The assets with the virtual one: the numerator of a share's price.
    pub(super) fn virtual_assets(&self) -> Option<U256> {
        self.assets.checked_add(VIRTUAL_ASSETS)
    }

    /// The shares with the virtual ones: its denominator.
    pub(super) fn virtual_shares(&self) -> Option<U256> {
        self.shares.checked_add(VIRTUAL_SHARES)
    }
}

/// The value if it fits 128 bits: what `toUint128` lets pass.
pub(super) fn uint128(x: U256) -> Option<U256> {
    (x.bit_len() <= 128).then_some(x)
}
