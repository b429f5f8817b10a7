//! `forebay dlq`: lists dead letters, and requests that the daemon publishes or discards them. Works with and
//! without a running daemon: it reads the buffer directory and writes requests there.

use std::collections::{HashMap, HashSet};

use serde_json::{Value as Json, json};

use crate::buffer::checkpoint::CheckpointFile;
use crate::buffer::disk::{Directory, DirectoryLock};
use crate::change::{OldRow, Operation, Relation, Tuple, Value};
use crate::config::Config;
use crate::config::units::Size;
use crate::dead_letter::entry::{self, Content, Kept, Lines, NotKept};
use crate::dead_letter::index::{Letter, State};
use crate::dead_letter::overview::{LetterSummary, Overview};
use crate::dead_letter::request::{self, Act, Request};
use crate::dead_letter::{self, FILE_NAME};
use crate::failure::Problem;
use crate::letter_id::LetterId;
use crate::source::postgres::pgoutput::Cells;
use crate::source::postgres::redecode;
use crate::visible::visible;

use super::progress::Progress;

/// Most letters in one request, because the daemon keeps them in memory.
const LETTERS_MAX: usize = 100_000;
/// A list is printed in parts of about this many bytes.
const PRINT_AT_ONCE: usize = 64 << 10;

/// The subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List dead letters: state, time, size, type and reason; no row values.
    List(List),
    /// Show one dead letter with its row values.
    Show(Show),
    /// Publish dead letters now: changes are translated again, events are sent unchanged.
    Retry(Retry),
    /// Give dead letters up. They stay in the file and count as quarantined.
    Discard(Discard),
}

/// Options of `list`.
#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    common: super::Common,
    /// Only letters in this state: waiting, halted, retrying, published or discarded.
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
    /// Id, or at least its first four digits.
    id: String,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// Which letters.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Chosen {
    /// Ids, or at least the first four digits of each.
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All letters that are waiting or halted.
    #[arg(long)]
    all: bool,
    /// All of these of one event type; of one table for changes that could not be translated.
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
    /// Reason, kept with the letters.
    #[arg(long)]
    reason: String,
}

fn state(text: &str) -> Result<State, String> {
    let all = [State::Waiting, State::Halted, State::Retrying, State::Published, State::Discarded];
    let names = || all.map(State::name).join(", ");
    all.into_iter().find(|state| state.name() == text).ok_or_else(|| format!("valid states are {}", names()))
}

/// Runs a subcommand.
///
/// # Errors
/// A message for the terminal; nothing was requested.
pub fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::List(options) => list(&Letters::read(&super::load(&options.common)?)?, options),
        Command::Show(options) => {
            let letters = Letters::read(&super::load(&options.common)?)?;
            print(&show(&letters, options)?, options.json);
            Ok(())
        }
        Command::Retry(Retry { common, chosen }) => request(&super::load(common)?, Act::Retry, chosen, None),
        Command::Discard(Discard { common, chosen, reason }) => {
            if reason.trim().is_empty() {
                let problem = Problem::new("--reason is empty");
                return Err(problem
                    .with_hint("Give the reason for discarding them: --reason \"…\".")
                    .lines());
            }
            request(&super::load(common)?, Act::Discard, chosen, Some(reason.clone()))
        }
    }
}

/// The letters of a directory, and the requests for them.
struct Letters {
    directory: Directory,
    overview: Overview,
    requests: Vec<Request>,
}

impl Letters {
    /// Reads the requests first, then the checkpoint, then the file. The daemon writes them in the opposite
    /// order, so a letter that changes meanwhile is still found in at least one of them.
    fn read(config: &Config) -> Result<Self, String> {
        let directory = Directory::open(&config.buffer.dir).map_err(super::explain)?;
        let filed = request::filed(&directory).map_err(super::explain)?;
        let requests: Vec<Request> = filed.into_iter().filter_map(|filed| filed.request).collect();
        let checkpoint = CheckpointFile::peek(&directory).map_err(super::explain)?.checkpoint;
        let mut overview = Overview::read(&directory).map_err(super::explain)?;
        let retried = requests.iter().filter(|request| request.act == Act::Retry);
        let retried: HashSet<&LetterId> = retried.flat_map(|request| &request.letters).collect();
        overview.settle(checkpoint.as_ref(), |id| retried.contains(id));
        Ok(Self { directory, overview, requests })
    }

    /// The letter whose id begins with `text`.
    fn typed(&self, text: &str) -> Result<Letter, String> {
        match self.overview.typed(text).as_slice() {
            [one] => self.letter(one),
            [] => {
                let problem = Problem::new(format!("there is no dead letter {text:?}"));
                Err(problem.with_hint("Run `forebay dlq list` to see the ids.").lines())
            }
            several => {
                let problem =
                    Problem::new(format!("{} dead letters have ids that begin with {text:?}", several.len()));
                Err(problem.with_hint("Type more digits of the id.").lines())
            }
        }
    }

    fn letter(&self, summary: &LetterSummary) -> Result<Letter, String> {
        let letter = self.overview.letter(&self.directory, summary).map_err(super::explain)?;
        letter.ok_or_else(|| format!("{FILE_NAME} was changed while it was read"))
    }

    /// The requested action for each letter. If several requests contain a letter, the first one counts.
    fn requested(&self) -> HashMap<&LetterId, &'static str> {
        let mut requested = HashMap::new();
        for (act, name) in [(Act::Retry, "retry"), (Act::Discard, "discard")] {
            for id in
                self.requests.iter().filter(|request| request.act == act).flat_map(|request| &request.letters)
            {
                requested.entry(id).or_insert(name);
            }
        }
        requested
    }

    fn line(&self, letter: &Letter) -> Result<Vec<u8>, String> {
        dead_letter::line_at(&self.directory, letter.offset).map_err(super::explain)
    }
}

fn print(text: &str, json: bool) {
    if json {
        super::say_exactly(text);
    } else {
        super::say(text);
    }
}

/// Prints the letters one after the other. Only their overview is in memory.
fn list(letters: &Letters, options: &List) -> Result<(), String> {
    let requested = letters.requested();
    let wanted = |letter: &&LetterSummary| options.state.is_none_or(|state| letter.state == state);
    let mut count = 0;
    let mut out = String::new();
    for summary in letters.overview.letters().filter(wanted) {
        let letter = letters.letter(summary)?;
        let requested = requested.get(&letter.id).copied().filter(|_| letter.state.is_open());
        count += 1;
        if options.json {
            super::add(&mut out, format_args!("{}", Json::Object(facts(&letter, requested))));
        } else {
            if count == 1 {
                out.push_str(
                    "ID            STATE              WRITTEN               SIZE        TYPE: REASON\n",
                );
            }
            row_of(&mut out, &letter, requested);
        }
        if out.len() >= PRINT_AT_ONCE {
            print(&out, options.json);
            out.clear();
        }
    }
    if count == 0 && !options.json {
        out.push_str("No dead letters.\n");
    }
    if letters.overview.unreadable > 0 && !options.json {
        let count = letters.overview.unreadable;
        super::add(&mut out, format_args!("{FILE_NAME} has {count} invalid lines, which are not listed."));
    }
    print(&out, options.json);
    Ok(())
}

fn row_of(out: &mut String, letter: &Letter, requested: Option<&str>) {
    let state = requested.map_or_else(|| letter.state.name().to_owned(), |act| format!("{act} requested"));
    let at = letter.at.as_deref().or(letter.committed.as_deref()).unwrap_or("?");
    let note = letter.note.as_ref().map(|note| format!(" (discarded: {})", visible(note)));
    super::add(
        out,
        format_args!(
            "{}  {state:<17}  {:<20}  {:<10}  {}: {}{}",
            letter.id,
            visible(&at.get(..19).map_or_else(|| at.to_owned(), |second| format!("{second}Z"))),
            Size(letter.size).to_string(),
            visible(&letter.event_type),
            visible(&letter.reason),
            note.unwrap_or_default(),
        ),
    );
}

/// The facts of a letter that a list shows; no values of its row.
fn facts(letter: &Letter, requested: Option<&str>) -> serde_json::Map<String, Json> {
    super::members(json!({
        "id": letter.id,
        "state": letter.state,
        "requested": requested,
        "type": letter.event_type,
        "reason": letter.reason,
        "hint": letter.hint,
        "written": letter.at,
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
    let requested = letters.requested().get(&letter.id).copied().filter(|_| letter.state.is_open());
    let line = letters.line(&letter)?;
    let mut shown = facts(&letter, requested);
    let parsed = |bytes| serde_json::from_slice::<Json>(bytes).map_err(|error| error.to_string());
    let mut show = |name: &str, value: Json| shown.insert(name.to_owned(), value);
    show("key", json!(letter.key));
    match entry::content(&line) {
        Some(Content::Event(event)) => {
            show("event", parsed(event)?);
        }
        Some(Content::Change(change)) => {
            show("change", parsed(change)?);
            let raw = letters.overview.raw_letter(&letters.directory, &letter).map_err(super::explain)?;
            let raw = raw.map(|raw| letters.line(&raw)).transpose()?;
            let lines = Lines { letter: line.clone(), raw };
            match lines.kept(change).and_then(|kept| decoded(&kept)) {
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
    Ok(format!("This output contains row values.\n{text}\n"))
}

/// The row of an untranslated change, in PostgreSQL's text form.
fn decoded(kept: &Kept) -> Result<Json, NotKept> {
    let Some(relation) = &kept.relation else {
        let message = redecode::message(kept.place, &kept.raw).map_err(NotKept::Malformed)?;
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
    Ok(match redecode::decode(&kept.raw, columns, &mut cells).map_err(NotKept::Malformed)? {
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

/// Writes a request for the chosen letters.
fn request(config: &Config, act: Act, chosen: &Chosen, reason: Option<String>) -> Result<(), String> {
    let letters = Letters::read(config)?;
    let Picked { ids, hopeless, more } = if chosen.ids.is_empty() {
        all_open(&letters, act, chosen.event_type.as_deref())?
    } else {
        let mut ids = Vec::new();
        for text in &chosen.ids {
            let letter = letters.typed(text)?;
            refuse_if_decided(&letter, act)?;
            ids.push(letter.id);
        }
        ids.sort_unstable();
        ids.dedup();
        Picked { ids, hopeless: 0, more: 0 }
    };
    let mut text = String::new();
    if hopeless > 0 {
        super::add(&mut text, format_args!("{} skipped: a retry cannot help.", letters_of(hopeless)));
    }
    if ids.is_empty() {
        super::say(&format!("{text}No letters to {}.\n", verb(act)));
        return Ok(());
    }
    let count = ids.len();
    let request = Request { act, letters: ids, reason, at: crate::time::now_micros() };
    request::file(&letters.directory, &request).map_err(super::explain)?;
    let daemon_runs = DirectoryLock::holder(&letters.directory).is_some();
    let when = if daemon_runs { "within a second" } else { "when the daemon runs again" };
    let act = verb(act);
    super::add(
        &mut text,
        format_args!("Requested to {act} {}; the daemon begins {when}.", letters_of(count)),
    );
    if more > 0 {
        super::add(
            &mut text,
            format_args!("{} left: run the command again when these are done.", letters_of(more)),
        );
    }
    super::say(&format!("{text}Run `forebay dlq list` to see the result.\n"));
    Ok(())
}

/// Letters for a request.
#[derive(Default)]
struct Picked {
    ids: Vec<LetterId>,
    /// Number of letters that a retry cannot help.
    hopeless: usize,
    /// Number of letters beyond the limit of one request.
    more: usize,
}

/// All open letters; with `event_type`, those of this type.
fn all_open(letters: &Letters, act: Act, event_type: Option<&str>) -> Result<Picked, String> {
    let mut picked = Picked::default();
    let requested = letters.requested();
    let is_requested = |id: &LetterId| requested.get(id).is_some_and(|requested| *requested == verb(act));
    let open = |letter: &&LetterSummary| letter.state.is_open() && !is_requested(&letter.id);
    let room = LETTERS_MAX.saturating_sub(requested.len());
    let all = letters.overview.letters().filter(open).count();
    let bar = Progress::of_things("reading dead letters", all as u64);
    for summary in letters.overview.letters().filter(open) {
        let letter = letters.letter(summary)?;
        bar.add(1);
        if event_type.is_some_and(|wanted| letter.event_type != wanted) {
            continue;
        }
        match act {
            Act::Retry if letter.hopeless.is_some() => picked.hopeless += 1,
            Act::Retry | Act::Discard if picked.ids.len() >= room => picked.more += 1,
            Act::Retry | Act::Discard => picked.ids.push(letter.id),
        }
    }
    picked.ids.sort_unstable();
    Ok(picked)
}

const fn verb(act: Act) -> &'static str {
    match act {
        Act::Retry => "retry",
        Act::Discard => "discard",
    }
}

fn letters_of(count: usize) -> String {
    format!("{count} dead {}", if count == 1 { "letter" } else { "letters" })
}

/// Refuses a request that would have no effect.
fn refuse_if_decided(letter: &Letter, act: Act) -> Result<(), String> {
    let Letter { id, .. } = letter;
    let problem = match (letter.state, act) {
        (State::Published, _) => Problem::new(format!("dead letter {id} is already published")),
        (State::Discarded, _) => Problem::new(format!("dead letter {id} is already discarded")),
        (State::Retrying, _) => {
            Problem::new(format!("dead letter {id} is being retried")).with_hint("Try again in a moment.")
        }
        (State::Waiting | State::Halted, Act::Retry) => {
            let Some(why) = letter.hopeless else { return Ok(()) };
            Problem::new(format!("a retry cannot help dead letter {id}"))
                .with_detail(why)
                .with_hint(format!("Run `forebay dlq discard {id} --reason \"…\"` to give it up."))
        }
        (State::Waiting | State::Halted, Act::Discard) => return Ok(()),
    };
    Err(problem.lines())
}
