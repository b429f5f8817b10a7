//! Which faults hit a request, and which of its entries.

use super::{Entry, Put};
use crate::fault::{Fault, Rule};
use crate::state::{Active, State};

impl State {
    /// Lets script and rules strike; refusals stand in the entries, other faults are handed back.
    pub(super) fn strike(&mut self, operation: &str, put: &mut Put) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut rules = std::mem::take(&mut self.rules);
        let mut step = self.script.pop_front().map(Active::from);
        for active in step.iter_mut().chain(rules.iter_mut()) {
            if !active.rule.hits_request(operation, &self.caller) || active.times == Some(0) {
                continue;
            }
            let hit = self.hit_entries(&active.rule, put);
            if hit.is_empty() {
                continue;
            }
            if active.skip > 0 {
                active.skip -= 1;
                continue;
            }
            let struck = if active.rule.fault.is_per_entry() {
                self.refuse(&active.rule, put, &hit)
            } else {
                let struck = self.dice.hits(active.rule.share);
                faults.extend(struck.then(|| active.rule.fault.clone()));
                struck
            };
            if struck {
                active.times = active.times.map(|times| times.saturating_sub(1));
                self.requests.faults += u64::from(active.rule.fault != Fault::Accept);
            }
        }
        rules.retain(|active| active.times != Some(0));
        self.rules = rules;
        faults
    }

    /// For dry runs: the first rule that refuses every request as a whole. Rules that count requests do not count these.
    pub(super) fn denial(&self, operation: &str) -> Option<Fault> {
        let denies = |rule: &&Rule| {
            let whole = rule.keys.is_empty() && rule.shards.is_empty() && rule.lanes.is_none();
            let always = rule.times.is_none() && rule.skip == 0 && rule.share >= 1.0;
            let refuses = matches!(rule.fault, Fault::Error { .. } | Fault::ExpiredCredentials);
            refuses && whole && always && rule.hits_request(operation, &self.caller)
        };
        self.rules.iter().map(|active| &active.rule).find(denies).map(|rule| rule.fault.clone())
    }

    /// For requests that are no puts: the first fault that hits the operation.
    pub(crate) fn strike_request(&mut self, operation: &str) -> Option<Fault> {
        let (dice, caller) = (&mut self.dice, &self.caller);
        let active = self.rules.iter_mut().find_map(|active| {
            let may = !active.rule.fault.is_per_entry() && active.times != Some(0);
            if !may || !active.rule.hits_request(operation, caller) {
                return None;
            }
            if active.skip > 0 {
                active.skip -= 1;
                return None;
            }
            dice.hits(active.rule.share).then_some(active)
        })?;
        active.times = active.times.map(|times| times.saturating_sub(1));
        self.requests.faults += 1;
        let fault = active.rule.fault.clone();
        self.rules.retain(|active| active.times != Some(0));
        Some(fault)
    }

    fn hit_entries(&self, rule: &Rule, put: &Put) -> Vec<usize> {
        let shard_of = |entry: &Entry| {
            let shards = self.streams.get(&*put.stream).map(|stream| &stream.shards);
            shards.and_then(|shards| shards.at(shards.route(entry.hash))).map_or("", |shard| &*shard.id)
        };
        let hit = |entry: &Entry| rule.hits_entry(&entry.key, entry.key_hash, shard_of(entry));
        put.entries.iter().enumerate().filter(|(_, entry)| hit(entry)).map(|(index, _)| index).collect()
    }

    fn refuse(&mut self, rule: &Rule, put: &mut Put, hit: &[usize]) -> bool {
        let mut struck = false;
        for index in hit {
            let code = match &rule.fault {
                Fault::Reject { code } => Some(*code),
                Fault::AcceptSome { pattern, code } => {
                    let sign = pattern.bytes().cycle().nth(*index);
                    (sign == Some(b'-')).then_some(*code)
                }
                _ => None,
            };
            if let (Some(code), Some(entry)) = (code, put.entries.get_mut(*index))
                && self.dice.hits(rule.share)
            {
                entry.refusal = Some(code);
                struck = true;
            }
        }
        struck
    }
}
