//! What one would write without thinking about memory: a map of accounts, each with a list of legs, valued one by one.

use std::collections::HashMap;

use backstop::{
    positions::Unit,
    scanner::{Factors, Shape},
    types::UnitKey,
};

struct Account {
    legs: Vec<(usize, f64)>,
}

pub struct Naive(HashMap<UnitKey, Account>);

impl Naive {
    pub fn of(units: &[(UnitKey, Unit)], shape: impl Fn(&Unit) -> Shape) -> Self {
        let account = |unit: &Unit| {
            let holdings = shape(unit).facets.into_iter().flat_map(|facet| facet.planes.holdings);
            Account { legs: holdings.map(|(factor, quantity)| (factor.0 as usize, quantity)).collect() }
        };
        Self(units.iter().map(|(key, unit)| (key.clone(), account(unit))).collect())
    }

    /// Keys of the accounts with too little surplus.
    pub fn pass(&self, factors: &Factors) -> Vec<&UnitKey> {
        let under = |account: &Account| {
            let planes = account.legs.iter().fold((0.0, 0.0), |(equity, surplus), (factor, quantity)| {
                (equity + quantity * factors.equity[*factor], surplus + quantity * factors.maintenance[*factor])
            });
            planes.0 < 0.0 || planes.1 < 0.0
        };
        self.0.iter().filter(|(_, account)| under(account)).map(|(key, _)| key).collect()
    }
}
