//! The long run: everything goes wrong at once, at random, for as long as it is told to.
//!
//! One database, one directory and one stream live through all rounds. In each, faults of the stub, of the line to Postgres, of
//! Postgres and of the daemon come at random moments while many keys, hot keys, large rows and large transactions are
//! written; then everything is mended. A window of rounds ends with the daemon killed and started again: by then all that was
//! committed must have been told, in order, once or with the same bytes again.
//!
//! `ROUNDS=n` or `SOAK_SECONDS=n` make it long (`scripts/soak` does), `SEED=n` repeats the choices.

pub mod figures;
mod load;
mod plan;
pub mod world;

use std::time::Instant;

use self::figures::{Extent, Figures};
use self::load::HotKeys;
use self::plan::Plan;
use self::world::World;
use crate::crash::promise::{self, Witness};
use crate::support::random::{Random, seed};
use crate::support::workload::Running;

/// Rounds of a window.
const WINDOW: usize = 5;

#[test]
fn mixed_faults_at_both_ends_lose_and_reorder_nothing() {
    let seed = seed();
    let mut random = Random::new(seed);
    let mut figures = Figures::new("mixed", seed, Extent::read(8));
    let mut world = World::prepare(seed);
    let mut witness = Witness::swear(&world.flow);
    figures.doing(world.choose(&mut random));
    world.start(&mut figures);
    // What was committed before there was a slot, nobody has promised.
    world.flow.daemon.wait_for_log("receiving");
    while figures.go_on() {
        round(&mut world, &mut witness, &mut figures, &mut random);
        figures.next_round();
        if figures.rounds().is_multiple_of(WINDOW) {
            close(&mut world, &mut witness, &mut figures);
        }
    }
    figures.doing("the last window");
    close(&mut world, &mut witness, &mut figures);
    world.stop(&mut figures);
    figures.kept += promise::check(&mut world.flow, &mut witness);
    figures.window(world.flow.close());
    println!("{}", figures.summary());
}

fn round(world: &mut World, witness: &mut Witness, figures: &mut Figures, random: &mut Random) {
    let plan = Plan::draw(random);
    let settings = world.choose(random);
    figures.doing(format!("{settings} at the next start; {plan:?}"));
    let load = Running::start(&world.flow.postgres, 3, 20, random.bits());
    let hot = HotKeys::start(&world.flow.postgres);
    let began = Instant::now();
    for (at, act) in &plan.acts {
        world.live_until(began + *at);
        world.act(act, figures);
    }
    world.live_until(began + plan.length);
    if plan.ends_in_a_kill {
        world.kill(figures);
    }
    world.mend();
    load.stop();
    drop(hot);
    if plan.ends_in_a_kill {
        figures.kept += promise::check(&mut world.flow, witness);
        world.start(figures);
    }
    world.look(figures);
}

/// Nobody writes, and nothing is wrong: all that was committed is told, and the window closed.
fn close(world: &mut World, witness: &mut Witness, figures: &mut Figures) {
    world.kill(figures);
    figures.kept += promise::check(&mut world.flow, witness);
    world.start(figures);
    world.flow.wait_until_told();
    world.look(figures);
    figures.window(world.flow.close());
}
