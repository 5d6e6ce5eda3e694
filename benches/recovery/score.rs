//! What a choice costs whom: the columns of the table.

use std::collections::BTreeMap;

use backstop::types::U256;

use crate::{
    event::{Event, Round},
    money::usd,
    round::Choice,
};

#[derive(Clone, Debug, Default)]
pub struct Score {
    /// Σ of what was taken beyond the demand, and of what was not taken though somebody had it; USD.
    pub over: f64,
    pub under: f64,
    /// What was taken, USD.
    pub taken: f64,
    /// The highest burden of each round, at most 1, and the budget it weighs with.
    pub rounds: Vec<(f64, f64)>,
    /// Accounts touched, over all rounds.
    pub accounts: usize,
    /// Known equities that end below zero.
    pub below_zero: usize,
    /// Median leverage afterwards, over all candidates.
    pub leverage: f64,
}

impl Score {
    pub fn of(event: &Event, choice: &Choice) -> Self {
        let mut score = Self::default();
        let mut leverages = Vec::new();
        for (round, choice) in event.rounds.iter().zip(choice) {
            score.add(round, choice, &mut leverages);
        }
        leverages.sort_unstable_by(f64::total_cmp);
        score.leverage = leverages.get(leverages.len() / 2).copied().unwrap_or_default();
        score
    }

    /// Budget-weighted mean of the rounds' highest burdens.
    pub fn burden(&self) -> f64 {
        let budget: f64 = self.rounds.iter().map(|(_, budget)| budget).sum();
        self.rounds.iter().map(|(burden, budget)| burden * budget).sum::<f64>() / budget
    }

    /// Σ |taken − demand| + Σ budget · |burden − burden of the optimum|, USD.
    pub fn objective(&self, optimum: &Self) -> f64 {
        let regret = self.rounds.iter().zip(&optimum.rounds).map(|((m, budget), (best, _))| budget * (m - best).abs());
        self.over + self.under + regret.sum::<f64>()
    }

    fn add(&mut self, round: &Round, choice: &[Vec<U256>], leverages: &mut Vec<f64>) {
        let mut paid = vec![U256::ZERO; round.accounts];
        let mut touched = vec![false; round.accounts];
        let mut known: BTreeMap<usize, U256> = BTreeMap::new();
        let mut budget = 0.0;
        for (market, lots) in round.markets.iter().zip(choice) {
            let available = market.candidates.iter().fold(U256::ZERO, |sum, c| sum + c.lots_max);
            let taken = lots.iter().fold(U256::ZERO, |sum, lots| sum + *lots);
            self.over += usd(taken.saturating_sub(market.lots) * market.gap);
            self.under += usd(market.lots.min(available).saturating_sub(taken) * market.gap);
            self.taken += usd(taken * market.gap);
            budget += usd(market.loss());
            for ((row, candidate), lots) in market.rows.iter().zip(&market.candidates).zip(lots) {
                let loss = *lots * market.gap;
                paid[row.account] += loss;
                touched[row.account] |= !lots.is_zero();
                if row.known {
                    let equity = known.entry(row.account).or_insert(row.equity);
                    *equity = (*equity).min(row.equity);
                }
                let left =
                    f64::from(candidate.notional) * f64::from(candidate.lots - *lots) / f64::from(candidate.lots);
                let equity = f64::from(row.equity.saturating_sub(loss));
                leverages.push(if equity > 0.0 { left / equity } else { 0.0 });
            }
        }
        let burdens = known.iter().map(|(account, equity)| (paid[*account], *equity));
        let highest = burdens.clone().map(|(paid, equity)| f64::from(paid) / f64::from(equity)).fold(0.0, f64::max);
        self.rounds.push((highest.min(1.0), budget));
        self.below_zero += burdens.filter(|(paid, equity)| paid > equity).count();
        self.accounts += touched.iter().filter(|touched| **touched).count();
    }
}
