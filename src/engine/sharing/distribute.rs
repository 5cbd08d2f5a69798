//! Who carries how much. Integer arithmetic only, and the same answer for the same question on
//! every machine.

use std::collections::BTreeMap;

use crate::model::NodeId;

/// A node that could carry load.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Carrier {
    pub(in crate::engine) node: NodeId,
    /// Its part of the load by declaration; parts are in proportion to these.
    pub(in crate::engine) declared: u64,
    /// Units that it can carry.
    pub(in crate::engine) capacity: u64,
}

/// Shares for everybody who carries, and what is left over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Distribution {
    pub(in crate::engine) of: BTreeMap<NodeId, u64>,
    /// Units that nobody can carry.
    pub(in crate::engine) shed: u64,
}

/// `demand` over the active tier in proportion to what each declares, nobody beyond its capacity;
/// what the tier cannot carry goes to the reserve, in its order and to as few of it as possible;
/// what is left then is shed.
pub(in crate::engine) fn distribute(
    demand: u64,
    active: &[Carrier],
    reserve: &[Carrier],
) -> Distribution {
    let mut of: BTreeMap<NodeId, u64> = active.iter().map(|c| (c.node.clone(), 0)).collect();
    let mut left = demand;
    // Whoever would get more than it can carry gets its capacity; the others share what remains.
    let mut open: Vec<&Carrier> = active.iter().filter(|c| c.capacity > 0).collect();
    while !open.is_empty() {
        let weight: u64 = open.iter().map(|c| c.declared).sum::<u64>().max(1);
        let part = |c: &Carrier| {
            u64::try_from(u128::from(left) * u128::from(c.declared) / u128::from(weight))
                .unwrap_or(u64::MAX)
        };
        let parts: Vec<(&Carrier, u64)> = open.iter().map(|c| (*c, part(c))).collect();
        let full: Vec<&Carrier> =
            parts.iter().filter(|(c, part)| *part >= c.capacity).map(|(c, _)| *c).collect();
        if full.is_empty() {
            left -= parts.iter().map(|(_, part)| part).sum::<u64>();
            // Rounding leaves less than one unit for each.
            for (carrier, part) in parts {
                let more = left.min(1);
                of.insert(carrier.node.clone(), part + more);
                left -= more;
            }
            break;
        }
        for carrier in &full {
            let units = carrier.capacity.min(left);
            of.insert(carrier.node.clone(), units);
            left -= units;
        }
        open.retain(|c| full.iter().all(|f| f.node != c.node));
    }
    for carrier in reserve {
        let units = carrier.capacity.min(left);
        of.insert(carrier.node.clone(), units);
        left -= units;
    }
    Distribution { of, shed: left }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn carriers(parts: &[(u64, u64)], prefix: &str) -> Vec<Carrier> {
        let carrier = |(i, (declared, capacity)): (usize, &(u64, u64))| Carrier {
            node: NodeId::new(format!("{prefix}-{i}")),
            declared: *declared,
            capacity: *capacity,
        };
        parts.iter().enumerate().map(carrier).collect()
    }
    fn units(d: &Distribution) -> Vec<u64> {
        d.of.values().copied().collect()
    }

    #[test]
    fn what_is_declared_is_what_comes_out_when_all_are_there() {
        let d = distribute(100, &carriers(&[(50, 80), (30, 80), (20, 80)], "n"), &[]);
        assert_eq!((units(&d), d.shed), (vec![50, 30, 20], 0));
    }

    #[test]
    fn a_lost_share_goes_to_the_others_in_proportion_and_within_capacity() {
        let d = distribute(100, &carriers(&[(30, 80), (20, 80)], "n"), &[]);
        assert_eq!((units(&d), d.shed), (vec![60, 40], 0));
        let d = distribute(100, &carriers(&[(30, 50), (20, 80)], "n"), &[]);
        assert_eq!(
            (units(&d), d.shed),
            (vec![50, 50], 0),
            "the first is full, the second takes the rest"
        );
    }

    #[test]
    fn the_reserve_is_for_what_the_tier_cannot_carry() {
        let (tier, reserve) =
            (carriers(&[(30, 50), (20, 40)], "n"), carriers(&[(0, 40), (0, 40)], "r"));
        let d = distribute(80, &tier, &reserve);
        assert_eq!(
            (units(&d), d.shed),
            (vec![48, 32, 0, 0], 0),
            "the tier carries it: nobody is promoted"
        );
        let d = distribute(100, &tier, &reserve);
        assert_eq!(
            (units(&d), d.shed),
            (vec![50, 40, 10, 0], 0),
            "as few of the reserve as possible"
        );
        let d = distribute(200, &tier, &reserve);
        assert_eq!(
            (units(&d), d.shed),
            (vec![50, 40, 40, 40], 30),
            "the rest is shed, and said so"
        );
    }

    proptest! {
        #[test]
        fn nothing_is_invented_and_nobody_is_overloaded(
            demand in 0u64..1_000,
            tier in proptest::collection::vec((1u64..200, 0u64..200), 0..6),
            reserve in proptest::collection::vec((0u64..1, 0u64..200), 0..4),
        ) {
            let (tier, reserve) = (carriers(&tier, "n"), carriers(&reserve, "r"));
            let d = distribute(demand, &tier, &reserve);
            prop_assert_eq!(d.of.values().sum::<u64>() + d.shed, demand);
            for c in tier.iter().chain(&reserve) {
                prop_assert!(d.of[&c.node] <= c.capacity);
            }
            let full = tier.iter().all(|c| d.of[&c.node] == c.capacity);
            prop_assert!(full || reserve.iter().all(|c| d.of[&c.node] == 0), "promoted before the tier was full: {:?}", d);
            prop_assert!(d.shed == 0 || tier.iter().chain(&reserve).all(|c| d.of[&c.node] == c.capacity));
        }
    }
}
