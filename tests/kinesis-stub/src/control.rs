//! `/_stub/…`: the same commands as the library's, for shell scripts.
//!
//! | request | what it does |
//! |---|---|
//! | `GET /_stub/stats` | counters and latency |
//! | `POST /_stub/stats/reset` | all of them to zero |
//! | `GET /_stub/fault` | the rules now |
//! | `POST /_stub/fault` | adds a rule, or each of an array |
//! | `DELETE /_stub/fault` | forgets rules and script |
//! | `POST /_stub/script` | an array of rules: each of the next puts takes one |
//! | `POST /_stub/release` | lets go what is held |
//! | `POST /_stub/reshard` | `{"stream": …, "shards": …}` |
//! | `GET /_stub/records` | one JSON line for each stored record |
//! | `DELETE /_stub/records` | forgets the records |

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::json;

use crate::error::{ApiError, Reply};
use crate::fault::Rule;
use crate::latency::Histogram;
use crate::state::{Now, State};
use crate::stats::{Requests, Stats};

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(Box<Rule>),
    Many(Vec<Rule>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reshard {
    stream: String,
    shards: u32,
}

impl State {
    /// One request of the control path.
    pub(crate) fn control(
        &mut self,
        method: &str,
        path: &str,
        body: &[u8],
        now: Now,
    ) -> Result<Reply, ApiError> {
        let bad = |error: serde_json::Error| ApiError::validation(error.to_string());
        let json = |value: &serde_json::Value| Ok(Reply::json(value.to_string()));
        match (method, path) {
            ("GET", "/_stub/stats") => json(&json!(self.stats())),
            ("POST", "/_stub/stats/reset") => {
                self.requests = Requests::default();
                self.latency = Histogram::default();
                Ok(Reply::empty())
            }
            ("GET", "/_stub/fault") => {
                json(&json!(self.rules.iter().map(|active| &active.rule).collect::<Vec<_>>()))
            }
            ("POST", "/_stub/fault") => {
                let rules = checked(serde_json::from_slice(body).map_err(bad)?)?;
                self.rules.extend(rules.into_iter().map(Into::into));
                Ok(Reply::empty())
            }
            ("DELETE", "/_stub/fault") => {
                self.rules.clear();
                self.script.clear();
                Ok(Reply::empty())
            }
            ("POST", "/_stub/script") => {
                self.script.extend(checked(serde_json::from_slice(body).map_err(bad)?)?);
                Ok(Reply::empty())
            }
            ("POST", "/_stub/release") => json(&json!({"released": self.release(now)})),
            ("POST", "/_stub/reshard") => {
                let Reshard { stream, shards } = serde_json::from_slice(body).map_err(bad)?;
                self.stream(Some(&stream), None)?.reshard(shards)?;
                Ok(Reply::empty())
            }
            ("GET", "/_stub/records") => Ok(self.dump()),
            ("DELETE", "/_stub/records") => {
                self.forget();
                Ok(Reply::empty())
            }
            _ => Err(ApiError::new(404, "NotFound", format!("{method} {path} is no command of the stub"))),
        }
    }

    /// Counters, held requests, latency.
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            records: self.requests.stored,
            bytes: self.requests.bytes,
            requests: self.requests.clone(),
            held: self.held.len(),
            late: self.late.len(),
            latency: self.config.measure.then(|| self.latency.summary()),
        }
    }

    fn dump(&self) -> Reply {
        let mut text = String::new();
        for record in &self.records {
            let line = json!({
                "stream": &*record.stream,
                "shard": &*record.shard,
                "key": record.key,
                "sequence": record.sequence,
                "data": STANDARD.encode(&record.data),
            });
            text.push_str(&line.to_string());
            text.push('\n');
        }
        Reply::json(text)
    }
}

fn checked(rules: OneOrMany) -> Result<Vec<Rule>, ApiError> {
    let rules = match rules {
        OneOrMany::One(rule) => vec![*rule],
        OneOrMany::Many(rules) => rules,
    };
    rules.iter().try_for_each(|rule| rule.check().map_err(ApiError::validation))?;
    Ok(rules)
}
