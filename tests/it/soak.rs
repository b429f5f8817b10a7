//! The long run: everything goes wrong at once, at random, for as long as it is configured to.
//!
//! One database, one directory and one stream live through all rounds. In each, faults of the stub, of the line to Postgres, of
//! Postgres and of the daemon come at random moments while many keys, hot keys, large rows and large transactions are
//! written, and a table is altered in the transactions of its rows; then everything is repaired. A window of rounds ends with the
//! daemon killed and started again: by then all that was committed must have been published, in order, once or with the same bytes
//! again; what was planted must be a dead letter; and the event counts must agree with both.
//!
//! `ROUNDS=n` or `SOAK_SECONDS=n` make it long (`scripts/soak` does), `SEED=n` repeats the choices.

pub mod figures;
mod letters;
mod load;
mod plan;
mod shapes;
pub mod world;

use std::collections::BTreeMap;
use std::time::Instant;

use self::figures::{Extent, Figures};
use self::letters::Letters;
use self::load::HotKeys;
use self::plan::Plan;
use self::shapes::Shapes;
use self::world::World;
use crate::crash::promise::{self, Recorder};
use crate::support::random::{Random, seed};
use crate::support::workload::Running;

/// Rounds of a window.
const WINDOW: usize = 5;

#[test]
fn mixed_faults_at_both_ends_lose_and_reorder_nothing() {
    let seed = seed();
    let mut random = Random::new(seed);
    let mut figures = Figures::new("mixed", seed, Extent::read(8));
    let mut judge = Judge::default();
    let mut world = World::prepare(seed);
    let mut recorder = Recorder::swear(&world.flow);
    figures.doing(world.choose(&mut random));
    world.start(&mut figures);
    // What was committed before there was a slot, nobody has promised.
    world.flow.daemon.wait_for_event("receiving");
    while figures.go_on() {
        round(&mut world, &mut recorder, &mut figures, &mut random);
        figures.next_round();
        if figures.rounds().is_multiple_of(WINDOW) {
            judge.close(&mut world, &mut recorder, &mut figures);
        }
    }
    figures.doing("the last window");
    judge.close(&mut world, &mut recorder, &mut figures);
    world.stop(&mut figures);
    figures.kept += promise::check(&mut world.flow, &mut recorder);
    figures.window(world.flow.close());
    println!("{}", figures.summary());
}

fn round(world: &mut World, recorder: &mut Recorder, figures: &mut Figures, random: &mut Random) {
    let plan = Plan::draw(random, figures.rounds());
    let settings = world.choose(random);
    figures.doing(format!("{settings} at the next start; {plan:?}"));
    let load = Running::start(&world.flow.postgres, 3, 20, random.bits());
    let hot = HotKeys::start(&world.flow.postgres);
    let shapes = Shapes::start(&world.flow.postgres, random.bits());
    let began = Instant::now();
    for (at, act) in &plan.acts {
        world.live_until(began + *at);
        world.act(act, figures);
    }
    world.live_until(began + plan.length);
    if plan.ends_in_a_kill {
        world.kill(figures);
    }
    world.repair();
    load.stop();
    drop((hot, shapes));
    if plan.ends_in_a_kill {
        figures.kept += promise::check(&mut world.flow, recorder);
        world.start(figures);
    }
    world.look(figures);
}

/// What is known of the windows that are closed.
#[derive(Debug, Default)]
struct Judge {
    letters: Letters,
    /// Changes that were published, by event type.
    published: BTreeMap<String, u64>,
    /// Rows of the altered table that were compared with what was written, and those that are dead letters.
    compared: usize,
    unknown: usize,
}

impl Judge {
    /// Nobody writes, and nothing is wrong: all that was committed is published or planted, and the window closed.
    fn close(&mut self, world: &mut World, recorder: &mut Recorder, figures: &mut Figures) {
        world.kill(figures);
        figures.kept += promise::check(&mut world.flow, recorder);
        world.start(figures);
        let unknown = self.letters.wait_until_published(&mut world.flow);
        world.look(figures);
        self.compared += shapes::check(&world.flow);
        self.unknown += unknown.len();
        for (_, change) in world.flow.postgres.history_after(world.flow.closed()) {
            if change.table != letters::SHAPES {
                *self.published.entry(change.event_type()).or_default() += 1;
            }
        }
        letters::check_counts(&world.flow, &self.published);
        self.letters.close(&world.flow);
        figures.window(world.flow.close_without(&unknown));
        println!("mixed: {} rows as written, {} of an unknown past", self.compared, self.unknown);
    }
}
