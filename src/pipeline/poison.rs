//! A record that cannot leave becomes an entry of the dead-letter file, and publishing goes on or stands before it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::buffer::dead_letter::index::{Index, State};
use crate::buffer::dead_letter::{DeadLetterError, DeadLetterFile, FILE_NAME, LetterId, position_of};
use crate::buffer::disk::DiskError;
use crate::buffer::ledger::SharedLedger;
use crate::config::OnPoison;
use crate::failure::Failure;
use crate::pipeline::meters;
use crate::position::FrameNo;
use crate::sink::lanes::{DeadLetter, DeadReason};
use crate::translate::json;

pub use self::aside::PutAside;

mod aside;

/// The dead letters of a process: the file, and the one that publishing stands before. Shared by the publish loop, which
/// adds letters, and the desk, which does what persons ask.
#[derive(Clone, Debug)]
pub struct Letters {
    directory: PathBuf,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    file: DeadLetterFile,
    standing: Option<Standing>,
    /// The stream's settings are to be read now: a retry may depend on them.
    look: bool,
}

#[derive(Debug)]
struct Standing {
    id: LetterId,
    verdict: Option<Verdict>,
}

/// What becomes of the record that publishing stands before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays in the dead-letter file; the rest goes on.
    PutAway,
    /// Perhaps the stream takes it now.
    TryAgain,
}

impl Letters {
    /// Opens the file of a buffer directory.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn open(directory: PathBuf) -> Result<Self, DiskError> {
        let file = DeadLetterFile::open(&directory)?;
        let shared = Arc::new(Mutex::new(Shared { file, standing: None, look: false }));
        Ok(Self { directory, shared })
    }

    /// The buffer directory.
    pub const fn directory(&self) -> &PathBuf {
        &self.directory
    }

    /// The dead-letter file.
    pub fn path(&self) -> PathBuf {
        self.directory.join(FILE_NAME)
    }

    /// Appends lines, fsynced.
    ///
    /// # Errors
    /// No room, or the disk refuses.
    pub fn append(&self, lines: &[u8]) -> Result<(), DeadLetterError> {
        self.lock().file.append(lines)
    }

    /// Decides about the record that publishing stands before, if it is this one.
    pub fn decide(&self, id: &LetterId, verdict: Verdict) -> bool {
        let mut shared = self.lock();
        let Some(standing) = shared.standing.as_mut().filter(|standing| standing.id == *id) else {
            return false;
        };
        standing.verdict = Some(verdict);
        true
    }

    /// Asks for the stream's settings to be read again: a person who retries may just have raised the limit.
    pub fn look_at_stream(&self) {
        self.lock().look = true;
    }

    fn wants_look(&self) -> bool {
        std::mem::take(&mut self.lock().look)
    }

    /// What was decided about the record that publishing stands before; given once.
    fn verdict(&self) -> Option<Verdict> {
        self.lock().standing.as_mut()?.verdict.take()
    }

    fn stand(&self, id: Option<LetterId>) {
        self.lock().standing = id.map(|id| Standing { id, verdict: None });
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a record that cannot leave.
#[derive(Debug)]
pub enum Laid {
    /// The file has it: it is finished.
    Away,
    /// The file has no room: its key waits.
    NoRoom(DeadLetterError),
    /// Publishing stands before it.
    Stands,
}

/// Lays records that cannot leave into the dead-letter file.
#[derive(Debug)]
pub struct Undertaker {
    letters: Letters,
    ledger: SharedLedger,
    on_poison: OnPoison,
    /// The record that publishing stands before.
    standing: Option<(FrameNo, u16)>,
    /// The last one before which it has said so.
    said: Option<LetterId>,
    /// What the file had when the attempt began.
    aside: PutAside,
}

impl Undertaker {
    /// With this rule.
    pub fn new(letters: Letters, ledger: SharedLedger, on_poison: OnPoison) -> Self {
        Self { letters, ledger, on_poison, standing: None, said: None, aside: PutAside::default() }
    }

    /// Begins an attempt: publishing stands before nothing, and what the file has is known.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn begin(&mut self) -> Result<(), Failure> {
        self.go_on();
        let low = self.ledger.lock().published().low.mark;
        self.aside = PutAside::read(&self.letters, &low).map_err(Failure::retry)?;
        Ok(())
    }

    /// Events that are not to be sent, because the file has them.
    pub const fn aside(&mut self) -> &mut PutAside {
        &mut self.aside
    }

    /// Takes a record whose turn it is.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn lay(&mut self, dead: &DeadLetter) -> Result<Laid, Failure> {
        if let Some(entry) = self.aside.entry(dead.frame, dead.part) {
            // Once more: the first time its fsync may have failed, and then only the page cache has it.
            return self.put_away(&entry.map_err(Failure::retry)?);
        }
        let (id, reason) = (id_of(dead), reason(dead));
        // What was put aside once does not stop everything when it fails again.
        let stands = self.on_poison == OnPoison::Stop && !self.ledger.lock().brings_retry(dead.frame);
        let state = if stands { self.known(&id, dead.frame)? } else { None };
        match state {
            Some((State::Standing, true)) => return Ok(self.stand(dead, id, &reason)),
            Some((state, _)) if state != State::Standing => return Ok(Laid::Away),
            Some(_) | None => {}
        }
        let laid = self.put_away(&entry(dead, &id, &reason, stands))?;
        if matches!(laid, Laid::Away) {
            if stands {
                return Ok(self.stand(dead, id, &reason));
            }
            tracing::error!(
                letter = %id, frame = %dead.frame, event_type = &*dead.event_type, reason,
                "a record went to the dead letter: see `forebay dlq list`"
            );
        }
        Ok(laid)
    }

    fn put_away(&self, entry: &[u8]) -> Result<Laid, Failure> {
        match self.letters.append(entry) {
            Ok(()) => Ok(Laid::Away),
            Err(error @ DeadLetterError::Full { .. }) => Ok(Laid::NoRoom(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// What the file says of a letter, and whether this frame has brought it.
    fn known(&self, id: &LetterId, frame: FrameNo) -> Result<Option<(State, bool)>, Failure> {
        let index = Index::read(&self.letters.path()).map_err(Failure::stop)?;
        Ok(index.get(id).map(|letter| (letter.state, letter.came_in(frame))))
    }

    fn stand(&mut self, dead: &DeadLetter, id: LetterId, reason: &str) -> Laid {
        self.letters.stand(Some(id.clone()));
        self.standing = Some((dead.frame, dead.part));
        meters::halted(true);
        if self.said.as_ref() != Some(&id) {
            tracing::error!(
                letter = %id, frame = %dead.frame, event_type = &*dead.event_type, reason,
                "publishing stops before a record that cannot leave, because on_poison is \"stop\"; receiving goes on into the \
                 buffer. Mend the cause and `forebay dlq retry`, or let it stay in the dead letter with `forebay dlq discard`"
            );
        }
        self.said = Some(id);
        Laid::Stands
    }

    /// What a person has decided about the record that publishing stands before. To try again, the stream is looked at
    /// first; that is asked for any retry.
    pub fn verdict(&mut self) -> Option<Verdict> {
        if let Some(verdict) = self.letters.verdict() {
            // Whatever comes of it is said.
            self.said = None;
            return Some(verdict);
        }
        self.letters.wants_look().then_some(Verdict::TryAgain)
    }

    /// The record that publishing stands before: its frame, and its ordinal there.
    pub const fn standing(&self) -> Option<(FrameNo, u16)> {
        self.standing
    }

    /// Publishing does not stand before anything any more; before what it stood.
    pub fn go_on(&mut self) -> Option<(FrameNo, u16)> {
        self.letters.stand(None);
        meters::halted(false);
        self.standing.take()
    }
}

/// Why it cannot leave.
pub fn reason(dead: &DeadLetter) -> String {
    match dead.reason {
        DeadReason::Untranslated => "the change could not be translated".to_owned(),
        DeadReason::TooLarge { size, limit } => {
            format!("the record has {size} bytes with its key, the stream takes at most {limit}")
        }
    }
}

/// The name of a record that cannot leave: made of its place, so that it is the same whenever it comes again. Several rules
/// can fail at one change: each has a letter of its own.
fn id_of(dead: &DeadLetter) -> LetterId {
    #[derive(serde::Deserialize)]
    struct Place {
        position: Option<String>,
        rule: Option<String>,
        sequence: Option<String>,
    }
    let place: Option<Place> = serde_json::from_slice(&dead.line).ok();
    let named = place.and_then(|place| match dead.reason {
        DeadReason::Untranslated => {
            let position = position_of(&place.position?)?;
            Some(
                place
                    .rule
                    .map_or_else(|| LetterId::of(position, 0), |rule| LetterId::of_rule(position, &rule)),
            )
        }
        DeadReason::TooLarge { .. } => Some(LetterId::of_sequence(&place.sequence?)),
    });
    named.unwrap_or_else(|| LetterId::of_text(&String::from_utf8_lossy(&dead.line)))
}

/// The reason that ingest has written into a change's letter.
fn told_reason(dead: &DeadLetter) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Told {
        reason: String,
    }
    serde_json::from_slice::<Told>(&dead.line).ok().map(|told| told.reason)
}

/// One JSON line: the dead letter of ingest as it is, or the event that is too large.
fn entry(dead: &DeadLetter, id: &LetterId, reason: &str, standing: bool) -> Vec<u8> {
    let mut line = Vec::with_capacity(dead.line.len() + 256);
    let (frame, part) = (dead.frame, dead.part);
    line.extend_from_slice(
        format!("{{\"id\":\"{id}\",\"frame\":{frame},\"part\":{part},\"type\":").as_bytes(),
    );
    json::write_string(&mut line, &dead.event_type);
    line.extend_from_slice(b",\"key\":");
    json::write_string(&mut line, &String::from_utf8_lossy(&dead.key));
    line.extend_from_slice(b",\"reason\":");
    let told = matches!(dead.reason, DeadReason::Untranslated).then(|| told_reason(dead)).flatten();
    json::write_string(
        &mut line,
        &told.map_or_else(|| reason.to_owned(), |told| format!("{reason}: {told}")),
    );
    line.extend_from_slice(b",\"at\":\"");
    crate::translate::time::write_rfc3339(&mut line, now());
    line.push(b'"');
    if standing {
        line.extend_from_slice(b",\"standing\":true");
    }
    let field: &[u8] = match dead.reason {
        DeadReason::Untranslated => b",\"change\":",
        DeadReason::TooLarge { .. } => b",\"event\":",
    };
    line.extend_from_slice(field);
    line.extend_from_slice(dead.line.strip_suffix(b"\n").unwrap_or(&dead.line));
    line.extend_from_slice(b"}\n");
    line
}

/// One JSON line: what was done with a letter.
pub fn act(id: &LetterId, state: State, frame: Option<FrameNo>, reason: Option<&str>) -> Vec<u8> {
    let mut line = format!("{{\"letter\":\"{id}\",\"state\":\"{}\",\"at\":\"", state.name()).into_bytes();
    crate::translate::time::write_rfc3339(&mut line, now());
    line.push(b'"');
    if let Some(frame) = frame {
        line.extend_from_slice(format!(",\"frame\":{frame}").as_bytes());
    }
    if let Some(reason) = reason {
        line.extend_from_slice(b",\"reason\":");
        json::write_string(&mut line, reason);
    }
    line.extend_from_slice(b"}\n");
    line
}

/// Microseconds since the Unix epoch.
pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}
