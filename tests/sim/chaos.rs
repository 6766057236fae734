//! Random faults.

use std::time::Duration;

use campos_operator::simulator::faults::{Body, Endpoint, Fault, Faults, Item, Pages, Reset, Revive, Rule};
use campos_operator::simulator::world::{Config, ListShape, StoppedShape};

use crate::dice::Dice;

/// One of the platforms that the real one might be.
pub(crate) fn platform(dice: &mut Dice) -> Config {
    Config {
        token: "t".into(),
        account_limit: *dice.pick(&[Some(180), Some(180), None]),
        page_size: 10,
        largest_page: *dice.pick(&[2, 3, 100]),
        refuse_large_pages: dice.chance(20),
        list: *dice.pick(&[ListShape::Wrapped, ListShape::Nested, ListShape::Bare]),
        stopped: *dice.pick(&[
            StoppedShape::Null,
            StoppedShape::OnlineFalse,
            StoppedShape::Absent,
            StoppedShape::Frozen,
        ]),
        telemetry_lag: Duration::from_secs(*dice.pick(&[0, 0, 1, 5, 30])),
        effect_delay: Duration::from_secs(*dice.pick(&[0, 0, 1, 20])),
        limit_headers: dice.chance(70),
        seed: dice.next(),
        faults: Faults::default(),
    }
}

/// Every way in which an item of a list is broken.
pub(crate) const ITEMS: [Item; 7] =
    [Item::Tab, Item::Latin1, Item::Quote, Item::Surrogate, Item::Nan, Item::NoId, Item::Open];

/// Some hardship.
pub(crate) fn faults(dice: &mut Dice) -> Faults {
    let rules = (0..dice.below(3)).map(|_| rule(dice)).collect();
    let revive = dice.chance(10).then(|| Revive { app: None, every: Duration::from_secs(1 + dice.below(60)) });
    Faults { rules, revive: revive.into_iter().collect() }
}

fn rule(dice: &mut Dice) -> Rule {
    let on = *dice.pick(&[
        Endpoint::Any,
        Endpoint::Any,
        Endpoint::List,
        Endpoint::List,
        Endpoint::Get,
        Endpoint::Stop,
        Endpoint::Stop,
        Endpoint::Start,
    ]);
    let mut rule = Rule::new(on, fault(dice));
    rule.probability = dice.chance(50).then_some(0.5);
    rule
}

fn fault(dice: &mut Dice) -> Fault {
    let plain = Fault::default();
    let seconds = |dice: &mut Dice, most: u64| Some(Duration::from_millis(dice.below(most * 1000)));
    match dice.below(19) {
        0 => Fault { status: Some(*dice.pick(&[500, 502, 503, 504, 408])), ..plain },
        1 => {
            let after = *dice.pick(&["1", "5", "40", "-1", "1000000000", "soon", "Tue, 24 Nov 2026 12:05:00 GMT"]);
            let headers = [("retry-after".to_owned(), after.to_owned())].into();
            Fault { status: Some(*dice.pick(&[429, 503, 403, 451])), headers, ..plain }
        }
        2 => Fault { status: Some(429), ..plain },
        3 => Fault { status: Some(*dice.pick(&[400, 401, 402, 403, 404, 409, 422, 423, 425, 451, 418, 302])), ..plain },
        4 => Fault { refuse: true, ..plain },
        5 => Fault { reset: Some(Reset::Before), ..plain },
        6 => Fault { reset: Some(Reset::After), ..plain },
        7 => Fault { hang: true, ..plain },
        8 => Fault { drip: true, ..plain },
        9 => Fault { truncate: Some(usize::try_from(dice.below(60)).unwrap()), ..plain },
        10 => Fault { body: Some(*dice.pick(&[Body::Html, Body::Empty, Body::Garbage, Body::OtherApp])), ..plain },
        11 => Fault { ignore: true, ..plain },
        12 => Fault { effect_delay: seconds(dice, 40), ..plain },
        13 => Fault { stale: seconds(dice, 90), ..plain },
        14 | 15 => {
            let pages = *dice.pick(&[Pages::Lose, Pages::Duplicate, Pages::Shift, Pages::Loop, Pages::Empty]);
            Fault { pages: Some(pages), ..plain }
        }
        16 => Fault { item: Some(*dice.pick(&ITEMS)), ..plain },
        _ => Fault { delay: seconds(dice, 20), ..plain },
    }
}
