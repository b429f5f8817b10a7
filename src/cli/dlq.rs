//! `forebay dlq`: what could not leave, and what becomes of it. Works with and without a running daemon: it reads the buffer
//! directory, and files requests there.

use serde_json::{Value as Json, json};

use crate::buffer::checkpoint::CheckpointFile;
use crate::buffer::dead_letter::index::{Index, Letter, State};
use crate::buffer::dead_letter::request::{self, Act, Request};
use crate::buffer::dead_letter::{self, FILE_NAME, LetterId};
use crate::buffer::disk;
use crate::change::{OldRow, Operation, Relation, Tuple, Value};
use crate::config::Config;
use crate::config::units::Size;
use crate::pipeline::poison;
use crate::pipeline::retry::{self, Content};
use crate::source::postgres::again;
use crate::source::postgres::pgoutput::Cells;
use crate::translate::dead_letter::{Kept, NotKept};

/// Which of the four.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List dead letters: state, time, size, type and reason; no row values.
    List(List),
    /// Show everything about one, its row values included.
    Show(Show),
    /// Publish letters after all: changes are translated anew, events are sent as they were.
    Retry(Retry),
    /// Give letters up. They stay in the file, and in the books as quarantined.
    Discard(Discard),
}

/// Options of `list`.
#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    common: super::Common,
    /// Only letters of this state: waiting, standing, retrying, published or discarded.
    #[arg(long, value_parser = state)]
    state: Option<State>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Options of `show`.
#[derive(Debug, clap::Args)]
pub struct Show {
    #[command(flatten)]
    common: super::Common,
    /// Its id, or the first four digits or more.
    id: String,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// Which letters.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Chosen {
    /// Ids, or the first four digits or more of each.
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All that are waiting, or that publishing stands before.
    #[arg(long)]
    all: bool,
    /// All of these of one event type, or of one table where the change could not be translated.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
}

/// Options of `retry`.
#[derive(Debug, clap::Args)]
pub struct Retry {
    #[command(flatten)]
    common: super::Common,
    #[command(flatten)]
    chosen: Chosen,
}

/// Options of `discard`.
#[derive(Debug, clap::Args)]
pub struct Discard {
    #[command(flatten)]
    common: super::Common,
    #[command(flatten)]
    chosen: Chosen,
    /// Why; it is kept with the letter.
    #[arg(long)]
    reason: String,
}

fn state(text: &str) -> Result<State, String> {
    let all = [State::Waiting, State::Standing, State::Retrying, State::Published, State::Discarded];
    let names = || all.map(State::name).join(", ");
    all.into_iter().find(|state| state.name() == text).ok_or_else(|| format!("it is one of {}", names()))
}

/// Runs one of them.
///
/// # Errors
/// Nothing was asked of the daemon.
pub fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::List(options) => {
            let letters = Letters::read(&super::load(&options.common)?)?;
            super::say(&list(&letters, options));
            Ok(())
        }
        Command::Show(options) => {
            let letters = Letters::read(&super::load(&options.common)?)?;
            super::say(&show(&letters, options)?);
            Ok(())
        }
        Command::Retry(Retry { common, chosen }) => ask(&super::load(common)?, Act::Retry, chosen, None),
        Command::Discard(Discard { common, chosen, reason }) => {
            if reason.trim().is_empty() {
                return Err("--reason is empty: say why, it is what the next person reads".to_owned());
            }
            ask(&super::load(common)?, Act::Discard, chosen, Some(reason.clone()))
        }
    }
}

/// The letters of a directory, and what is asked of them.
struct Letters {
    directory: std::path::PathBuf,
    index: Index,
    asked: Vec<Request>,
}

impl Letters {
    /// Requests first, then the checkpoint, then the file: the daemon writes the other way round, so that nothing seems
    /// forgotten in between.
    fn read(config: &Config) -> Result<Self, String> {
        let directory = config.buffer.dir.clone();
        let filed = request::filed(&directory).map_err(super::explain)?;
        let asked: Vec<Request> = filed.into_iter().filter_map(|filed| filed.request).collect();
        let checkpoint = CheckpointFile::peek(&directory).map_err(super::explain)?.checkpoint;
        let path = directory.join(FILE_NAME);
        let mut index =
            Index::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        index.settle(checkpoint.as_ref(), |id| is_asked(&asked, id, Act::Retry));
        Ok(Self { directory, index, asked })
    }

    /// The letter that somebody means.
    fn typed(&self, text: &str) -> Result<&Letter, String> {
        match self.index.typed(text).as_slice() {
            [one] => Ok(one),
            [] => Err(format!("there is no dead letter {text:?}; `forebay dlq list` shows their ids")),
            several => Err(format!("{text:?} is the beginning of {} ids: type more of it", several.len())),
        }
    }

    fn asked(&self, letter: &Letter) -> Option<&'static str> {
        let open = letter.state.is_open();
        [(Act::Retry, "retry"), (Act::Discard, "discard")]
            .into_iter()
            .find(|(act, _)| open && is_asked(&self.asked, &letter.id, *act))
            .map(|(_, name)| name)
    }

    fn line(&self, letter: &Letter) -> Result<Vec<u8>, String> {
        dead_letter::line_at(&self.directory, letter.offset)
            .map_err(|error| format!("cannot read the letter: {error}"))
    }
}

fn is_asked(asked: &[Request], id: &LetterId, act: Act) -> bool {
    asked.iter().any(|request| request.act == act && request.letters.contains(id))
}

fn list(letters: &Letters, options: &List) -> String {
    let mut out = String::new();
    let wanted =
        letters.index.letters().filter(|letter| options.state.is_none_or(|state| letter.state == state));
    let mut count = 0;
    for letter in wanted {
        count += 1;
        if options.json {
            super::add(&mut out, format_args!("{}", Json::Object(facts(letters, letter))));
            continue;
        }
        if count == 1 {
            out.push_str("ID            STATE      PUT ASIDE             SIZE        TYPE, REASON\n");
        }
        let state = letters
            .asked(letter)
            .map_or_else(|| letter.state.name().to_owned(), |act| format!("{act} asked"));
        let at = letter.at.as_deref().or(letter.committed.as_deref()).unwrap_or("?");
        super::add(
            &mut out,
            format_args!(
                "{}  {state:<9}  {:<20}  {:<10}  {}: {}{}",
                letter.id,
                at.get(..19).map_or_else(|| at.to_owned(), |second| format!("{second}Z")),
                Size(letter.size).to_string(),
                letter.event_type,
                letter.reason,
                letter.note.as_ref().map(|note| format!(" (discarded: {note})")).unwrap_or_default(),
            ),
        );
    }
    if count == 0 && !options.json {
        out.push_str("There are no such dead letters.\n");
    }
    if letters.index.unreadable > 0 && !options.json {
        let count = letters.index.unreadable;
        super::add(&mut out, format_args!("{count} lines of {FILE_NAME} cannot be understood."));
    }
    out
}

/// What a list says of one: no row values.
fn facts(letters: &Letters, letter: &Letter) -> serde_json::Map<String, Json> {
    super::members(json!({
        "id": letter.id,
        "state": letter.state,
        "asked": letters.asked(letter),
        "type": letter.event_type,
        "reason": letter.reason,
        "put_aside": letter.at,
        "committed": letter.committed,
        "since": letter.since,
        "size": letter.size,
        "frame": letter.last_frame(),
        "retry_cannot_help": letter.hopeless,
        "discarded_because": letter.note,
    }))
}

fn show(letters: &Letters, options: &Show) -> Result<String, String> {
    let letter = letters.typed(&options.id)?;
    let line = letters.line(letter)?;
    let mut shown = facts(letters, letter);
    let parsed = |bytes| serde_json::from_slice::<Json>(bytes).map_err(|error| error.to_string());
    let mut show = |name: &str, value: Json| shown.insert(name.to_owned(), value);
    show("key", json!(letter.key));
    match retry::content(&line) {
        Some(Content::Event(event)) => {
            show("event", parsed(event)?);
        }
        Some(Content::Change(change)) => {
            show("change", parsed(change)?);
            match Kept::read(change).and_then(|kept| decoded(&kept)) {
                Ok(row) => show("decoded", row),
                Err(error) => show("not_decoded_because", json!(error.to_string())),
            };
        }
        None => {}
    }
    let shown = Json::Object(shown);
    if options.json {
        return Ok(format!("{shown}\n"));
    }
    let text = serde_json::to_string_pretty(&shown).map_err(|error| error.to_string())?;
    Ok(format!("This holds row values.\n{text}\n"))
}

/// The row of a raw change, as Postgres has sent it: texts.
fn decoded(kept: &Kept) -> Result<Json, NotKept> {
    let Some(relation) = &kept.relation else {
        let message = again::message(kept.place, &kept.raw).map_err(NotKept::Malformed)?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        return Ok(json!({ "prefix": text(message.prefix), "content": text(message.content) }));
    };
    let mut cells = Cells::default();
    let columns = relation.columns.len();
    let row = |tuple: Tuple<'_>| row(relation, tuple);
    let old_row = |old: OldRow<'_>| match old {
        OldRow::Key(tuple) => json!({ "key": row(tuple) }),
        OldRow::Full(tuple) => json!({ "row": row(tuple) }),
    };
    Ok(match again::decode(&kept.raw, columns, &mut cells).map_err(NotKept::Malformed)? {
        Operation::Insert { new } => json!({ "operation": "insert", "new": row(new) }),
        Operation::Update { old, new } => {
            json!({ "operation": "update", "old": old.map(old_row), "new": row(new) })
        }
        Operation::Delete { old } => json!({ "operation": "delete", "old": old_row(old) }),
        Operation::Truncate { .. } => json!({ "operation": "truncate" }),
    })
}

fn row(relation: &Relation, tuple: Tuple<'_>) -> Json {
    let value = |at| match tuple.get(at) {
        Value::Null => Json::Null,
        Value::Unavailable => json!({ "unavailable": true }),
        Value::Text(text) => json!(String::from_utf8_lossy(text)),
    };
    relation.columns.iter().enumerate().map(|(at, column)| (column.name.clone(), value(at))).collect()
}

/// Files a request for the letters that are chosen.
fn ask(config: &Config, act: Act, chosen: &Chosen, reason: Option<String>) -> Result<(), String> {
    let letters = Letters::read(config)?;
    let mut picked = Vec::new();
    let mut left_out = 0;
    for id in &chosen.ids {
        let letter = letters.typed(id)?;
        if let Some(why) = forbidden(letter, act) {
            return Err(format!("{}: {why}", letter.id));
        }
        picked.push(letter.id.clone());
    }
    if chosen.ids.is_empty() {
        let meant = |letter: &&Letter| {
            letter.state.is_open()
                && chosen.event_type.as_ref().is_none_or(|wanted| letter.event_type == *wanted)
        };
        for letter in letters.index.letters().filter(meant) {
            if forbidden(letter, act).is_none() {
                picked.push(letter.id.clone());
            } else {
                left_out += 1;
            }
        }
    }
    picked.sort_unstable();
    picked.dedup();
    let mut said = String::new();
    if left_out > 0 {
        super::add(
            &mut said,
            format_args!("{left_out} letters are left out, because a retry cannot help them."),
        );
    }
    if picked.is_empty() {
        super::say(&format!("{said}There is nothing to do.\n"));
        return Ok(());
    }
    let count = picked.len();
    let request = Request { act, letters: picked, reason, at: poison::now() };
    request::file(&letters.directory, &request).map_err(super::explain)?;
    let (done, plural) = match act {
        Act::Retry => ("retried", if count == 1 { "letter is" } else { "letters are" }),
        Act::Discard => ("discarded", if count == 1 { "letter is" } else { "letters are" }),
    };
    let when = if disk::held_by(&letters.directory).is_some() {
        "within a second"
    } else {
        "when the daemon runs again"
    };
    super::say(&format!(
        "{said}{count} {plural} {done} {when}; `forebay dlq list` shows what has become of them.\n"
    ));
    Ok(())
}

/// Why this cannot be asked of a letter.
fn forbidden(letter: &Letter, act: Act) -> Option<String> {
    match (letter.state, act) {
        (State::Published, _) => Some("it is published already".to_owned()),
        (State::Discarded, _) => Some("it is discarded already".to_owned()),
        (State::Retrying, _) => Some("it is being retried: look again in a moment".to_owned()),
        (State::Waiting | State::Standing, Act::Retry) => {
            letter.hopeless.map(|why| format!("a retry cannot help: {why}"))
        }
        (State::Waiting | State::Standing, Act::Discard) => None,
    }
}
