//! Random, seeded actions of accounts, of the market and of governance.

use alloy::primitives::{Address, U256};

use crate::world::{Comptroller, Market, Oracle, Pool, RateModel, Token, VToken, World};

/// SplitMix64: enough to choose actions by.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `n` − 1.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let at = usize::try_from(self.below(of.len() as u64)).expect("an index");
        &of[at]
    }

    /// Between these parts per thousand of an amount.
    pub(crate) fn part(&mut self, of: U256, low: u64, high: u64) -> U256 {
        of * U256::from(low + self.below(high - low + 1)) / U256::from(1_000)
    }
}

pub(crate) const WAD: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);

impl World {
    /// Token units worth so many dollars.
    pub(crate) async fn worth(&self, market: &Market, dollars: u64) -> U256 {
        let asset = market.underlying;
        let price = self.view(self.places.oracle, &Oracle::assetPricesCall { asset }).await;
        if price.is_zero() { U256::ONE } else { U256::from(dollars) * WAD * WAD / price }
    }

    pub(crate) async fn set_price(&self, asset: Address, price: U256) {
        self.send(self.places.owner, self.places.oracle, &Oracle::setPriceCall { asset, price }).await;
    }

    /// One action of one account, perhaps one that the contracts refuse.
    pub(crate) async fn act(&self, dice: &mut Dice) {
        let markets: Vec<(&Pool, &Market)> = self.markets().collect();
        let (pool, market) = *dice.pick(&markets);
        let actor = *dice.pick(&self.actors);
        let (vtoken, comptroller) = (market.vtoken, pool.comptroller);
        match dice.below(100) {
            0..20 => {
                let mint_amount = self.worth(market, 100 + dice.below(3_000)).await;
                self.send(actor, vtoken, &VToken::mintCall { mintAmount: mint_amount }).await;
            }
            20..35 => {
                self.send(actor, comptroller, &Comptroller::enterMarketsCall { vTokens: vec![vtoken] }).await;
            }
            35..40 => {
                self.send(actor, comptroller, &Comptroller::exitMarketCall { vToken: vtoken }).await;
            }
            40..63 => self.borrow(dice, actor, pool, market).await,
            63..73 => {
                let owed = self.view(vtoken, &VToken::borrowBalanceStoredCall { account: actor }).await;
                let repay_amount = if dice.below(3) == 0 { U256::MAX >> 1 } else { dice.part(owed, 1, 900) };
                self.send(actor, vtoken, &VToken::repayBorrowCall { repayAmount: repay_amount }).await;
            }
            73..83 => {
                let held = self.view(vtoken, &VToken::balanceOfCall { owner: actor }).await;
                let some = dice.part(held, 1, 1_000);
                if dice.below(2) == 0 {
                    self.send(actor, vtoken, &VToken::redeemCall { redeemTokens: some }).await;
                } else {
                    let redeem_amount = self.worth(market, 1 + dice.below(200)).await;
                    self.send(actor, vtoken, &VToken::redeemUnderlyingCall { redeemAmount: redeem_amount }).await;
                }
            }
            83..92 => {
                let held = self.view(vtoken, &VToken::balanceOfCall { owner: actor }).await;
                // Also to the vToken itself, which looks like a redemption.
                let dst = if dice.below(12) == 0 { vtoken } else { *dice.pick(&self.actors) };
                self.send(actor, vtoken, &VToken::transferCall { dst, amount: dice.part(held, 1, 500) }).await;
            }
            92..95 => {
                self.send(actor, vtoken, &VToken::accrueInterestCall {}).await;
            }
            95..97 => {
                let add_amount = self.worth(market, dice.below(50)).await;
                self.send(actor, vtoken, &VToken::addReservesCall { addAmount: add_amount }).await;
            }
            97..99 => {
                let reduce_amount = self.worth(market, dice.below(20)).await;
                self.send(actor, vtoken, &VToken::reduceReservesCall { reduceAmount: reduce_amount }).await;
            }
            _ => {
                // Tokens sent astray, and their recognition.
                let amount = self.worth(market, dice.below(30)).await;
                self.send(actor, market.underlying, &Token::transferCall { to: vtoken, amount }).await;
                self.send(self.places.owner, vtoken, &VToken::syncCashCall {}).await;
            }
        }
    }

    /// Borrows most of what the account may.
    pub(crate) async fn borrow(&self, dice: &mut Dice, actor: Address, pool: &Pool, market: &Market) {
        let power = self.view(pool.comptroller, &Comptroller::getBorrowingPowerCall { account: actor }).await;
        let (asset, oracle) = (market.underlying, self.places.oracle);
        let price = self.view(oracle, &Oracle::assetPricesCall { asset }).await;
        if price.is_zero() {
            return;
        }
        let borrow_amount = dice.part(power.liquidity, 300, 990) * WAD / price;
        self.send(actor, market.vtoken, &VToken::borrowCall { borrowAmount: borrow_amount }).await;
    }

    /// Somebody liquidates or heals somebody who is short, if there is one and the contracts let him.
    pub(crate) async fn poach(&self, dice: &mut Dice) {
        let pool = dice.pick(&self.places.pools);
        let liquidator = *dice.pick(&self.actors);
        let start = dice.below(self.actors.len() as u64) as usize;
        for borrower in self.actors.iter().cycle().skip(start).take(self.actors.len()).copied() {
            let short = Comptroller::getAccountLiquidityCall { account: borrower };
            // Without a price the view reverts: nobody can do anything.
            if self.try_view(pool.comptroller, &short).await.is_none_or(|sums| sums.shortfall.is_zero()) {
                continue;
            }
            self.send(liquidator, pool.comptroller, &Comptroller::healAccountCall { user: borrower }).await;
            for debt in pool.markets.values() {
                let owed = self.view(debt.vtoken, &VToken::borrowBalanceStoredCall { account: borrower }).await;
                for collateral in pool.markets.values().filter(|_| !owed.is_zero()) {
                    let repay_amount = dice.part(owed, 1, 300);
                    let (borrower, collateral) = (borrower, collateral.vtoken);
                    let call = VToken::liquidateBorrowCall {
                        borrower,
                        repayAmount: repay_amount,
                        vTokenCollateral: collateral,
                    };
                    self.send(liquidator, debt.vtoken, &call).await;
                }
            }
            return;
        }
    }

    /// Every token's price moves by up to so many parts per thousand.
    pub(crate) async fn shake(&self, dice: &mut Dice, by: u64) {
        for asset in self.places.tokens.values().copied() {
            let price = self.view(self.places.oracle, &Oracle::assetPricesCall { asset }).await;
            self.set_price(asset, dice.part(price, 1_000 - by, 1_000 + by).max(U256::ONE)).await;
        }
    }

    /// Governance moves a parameter.
    pub(crate) async fn govern(&self, dice: &mut Dice) {
        let owner = self.places.owner;
        let markets: Vec<(&Pool, &Market)> = self.markets().collect();
        let (pool, market) = *dice.pick(&markets);
        let (vtoken, percent) = (market.vtoken, WAD / U256::from(100));
        let percents = |n: u64| percent * U256::from(n);
        match dice.below(9) {
            0 => {
                let call = VToken::setReserveFactorCall { newReserveFactorMantissa: percents(dice.below(40)) };
                self.send(owner, vtoken, &call).await;
            }
            1 => {
                let call = VToken::setProtocolSeizeShareCall { newProtocolSeizeShareMantissa: percents(dice.below(8)) };
                self.send(owner, vtoken, &call).await;
            }
            2 => {
                let call = VToken::setReduceReservesBlockDeltaCall { delta: U256::from(1 + dice.below(30)) };
                self.send(owner, vtoken, &call).await;
            }
            3 => {
                let threshold = percents(55 + dice.below(35));
                let factor = threshold - percents(5);
                let call = Comptroller::setCollateralFactorCall { vToken: vtoken, factor, threshold };
                self.send(owner, pool.comptroller, &call).await;
            }
            4 => {
                let incentive = percents(108 + dice.below(10));
                self.send(owner, pool.comptroller, &Comptroller::setLiquidationIncentiveCall { incentive }).await;
            }
            5 => {
                let call = RateModel::updateJumpRateModelCall {
                    base: percents(dice.below(5)),
                    multiplier: percents(dice.below(30)),
                    jump: percents(100 + dice.below(300)),
                    kink: percents(50 + dice.below(45)),
                };
                self.send(owner, market.model, &call).await;
            }
            6 => {
                let other = *dice.pick(&markets);
                let call = VToken::setInterestRateModelCall { newInterestRateModel: other.1.model };
                self.send(owner, vtoken, &call).await;
            }
            7 => {
                let call = Comptroller::setMinLiquidatableCollateralCall { least: U256::from(dice.below(900)) * WAD };
                self.send(owner, pool.comptroller, &call).await;
            }
            _ => {
                let actions = vec![u8::try_from(dice.below(7)).expect("an action")];
                let paused = dice.below(3) == 0;
                let call = Comptroller::setActionsPausedCall { markets: vec![vtoken], actions, paused };
                self.send(owner, pool.comptroller, &call).await;
            }
        }
    }
}
