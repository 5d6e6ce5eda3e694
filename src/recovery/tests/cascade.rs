//! Waves of a cascade, on the crash of the examples: account 1 holds 10 lots at 800 and is 500 short.

use super::{examples::crashed, *};

#[test]
fn a_wave_counts_each_fall_once_and_is_provided_for_from_earlier_ones() {
    let mut waves = Waves::default();
    let case = crashed().case();
    let first = waves.see(&case).unwrap();
    assert_eq!((first.provided, first.lost), (U256::ZERO, U256::from(500)), "nothing was known before");
    assert_eq!(waves.see(&case), None, "it stands as it stood");
    waves.calm_all_but(&BTreeSet::new());
    let again = waves.see(&case).unwrap();
    assert_eq!((again.provided, again.lost), (U256::from(500), U256::from(500)), "the same gap of the same notional");
    let error = waves.error(case.segment);
    assert_eq!((error.waves, error.absolute, error.lost), (2, U256::from(500), U256::from(1_000)));
    let calm = SegmentCase { distressed: Vec::new(), ..case };
    assert_eq!(waves.see(&calm), None);
    assert_eq!(waves.error(SegmentId(9)), ForecastError::default());
}
