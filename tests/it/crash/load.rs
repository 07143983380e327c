//! Load that keeps books: what was asked for, what was acknowledged, and how firmly.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinHandle;

use super::world::{Answer, Planes, World};

/// The tag whose value counts up.
pub const TAG: &str = "count";
/// Files that the agent and the commands of a session write.
const FILES: [&str; 2] = ["agent", "command"];

/// What is known of one file of a session.
#[derive(Debug, Clone, Default)]
struct Page {
    attempted: BTreeSet<u64>,
    /// Acknowledged.
    answered: BTreeSet<u64>,
    /// Acknowledged and fsync'ed, or acknowledged before a stop that was acknowledged.
    durable: BTreeSet<u64>,
}

/// What is known of a session.
#[derive(Debug, Clone)]
pub struct Book {
    pub session: String,
    pages: [Page; 2],
    /// A stop was acknowledged and nothing has been asked since.
    pub stopped: bool,
}

impl Book {
    /// Compares with what is in the session's storage: everything that was acknowledged, or after a power cut
    /// what is durable, must be there, once, and nothing that nobody wrote. Gives how much that was.
    pub fn check(&self, world: &World, power_cut: bool) -> Result<usize, String> {
        let mut count = 0;
        for (file, page) in FILES.iter().zip(&self.pages) {
            let found = world.ledger(&self.session, file, power_cut)?;
            let there: BTreeSet<u64> = found.iter().copied().collect();
            if there.len() != found.len() {
                return Err(format!("{}/{file}: something was done twice: {found:?}", self.session));
            }
            let promised = if power_cut { &page.durable } else { &page.answered };
            let lost: Vec<_> = promised.difference(&there).collect();
            let foreign: Vec<_> = there.difference(&page.attempted).collect();
            if !lost.is_empty() || !foreign.is_empty() {
                return Err(format!("{}/{file}: lost {lost:?}, foreign {foreign:?}", self.session));
            }
            count += promised.len();
        }
        Ok(count)
    }
}

impl Book {
    /// How many acknowledged writes are gone.
    pub fn missing(&self, world: &World) -> usize {
        let gone = |(file, page): (&&str, &Page)| {
            let found: BTreeSet<u64> =
                world.ledger(&self.session, file, true).unwrap_or_default().into_iter().collect();
            page.answered.difference(&found).count()
        };
        FILES.iter().zip(&self.pages).map(gone).sum()
    }
}

/// What the load may do.
#[derive(Default)]
pub struct Control {
    paused: AtomicBool,
    /// Calls may fail: something is being killed.
    disturbed: AtomicBool,
    ended: AtomicBool,
    busy: AtomicUsize,
    tag_attempted: AtomicU64,
    tag_answered: AtomicU64,
    calls: AtomicUsize,
    refused: AtomicUsize,
    /// Calls that failed although nothing was wrong.
    surprises: Mutex<Vec<String>>,
}

/// Sessions that are used all the time, and one writer to the control plane.
pub struct Load {
    pub control: Arc<Control>,
    books: Vec<Arc<Mutex<Book>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    /// Begins. Needs a runtime around it.
    pub fn begin(planes: &Planes, sessions: usize, seed: u64) -> Self {
        let control = Arc::new(Control::default());
        let mut load = Self { control: control.clone(), books: Vec::new(), tasks: Vec::new() };
        for number in 0..sessions {
            let session = format!("crash-{number}-{:040}", 0);
            let book = Arc::new(Mutex::new(Book { session, pages: Default::default(), stopped: false }));
            load.books.push(book.clone());
            let dice = Dice::new(seed.wrapping_add(number as u64 * 7919));
            load.tasks.push(tokio::spawn(use_session(planes.clone(), control.clone(), book, dice)));
        }
        load.tasks.push(tokio::spawn(use_control_plane(planes.clone(), control)));
        load
    }

    /// What is known now.
    pub fn books(&self) -> Vec<Book> {
        self.books.iter().map(|book| book.lock().clone()).collect()
    }

    /// From now on calls may fail.
    pub fn disturb(&self) {
        self.control.disturbed.store(true, SeqCst);
    }

    /// Waits until no call is under way, and lets none begin.
    pub async fn pause(&self) {
        self.control.paused.store(true, SeqCst);
        while self.control.busy.load(SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Lets calls begin again, which must now succeed.
    pub fn resume(&self) {
        self.control.disturbed.store(false, SeqCst);
        self.control.paused.store(false, SeqCst);
    }

    pub fn surprises(&self) -> Vec<String> {
        self.control.surprises.lock().clone()
    }

    /// Calls made, and those that failed.
    pub fn calls(&self) -> (usize, usize) {
        (self.control.calls.load(SeqCst), self.control.refused.load(SeqCst))
    }

    /// The counter's last acknowledged and last attempted value.
    pub fn tag(&self) -> (u64, u64) {
        // In this order: what is attempted later may be there, what is acknowledged must be.
        let answered = self.control.tag_answered.load(SeqCst);
        (answered, self.control.tag_attempted.load(SeqCst))
    }

    pub async fn end(self) -> Vec<Book> {
        self.control.ended.store(true, SeqCst);
        let books = self.books();
        for task in self.tasks {
            task.await.unwrap();
        }
        books
    }
}

impl Control {
    /// Waits for the permission to make a call. Nothing when the load has ended.
    async fn enter(&self) -> Option<Busy<'_>> {
        loop {
            if self.ended.load(SeqCst) {
                return None;
            }
            self.busy.fetch_add(1, SeqCst);
            let busy = Busy(self);
            if !self.paused.load(SeqCst) {
                return Some(busy);
            }
            drop(busy);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// True when the call was acknowledged.
    fn acknowledged(&self, what: &str, answer: Answer) -> bool {
        self.calls.fetch_add(1, SeqCst);
        let failure = match answer {
            Ok((status, _)) if status.is_success() => return true,
            Ok((status, body)) => format!("{what}: {status} {}", String::from_utf8_lossy(&body)),
            Err(e) => format!("{what}: {e}"),
        };
        self.refused.fetch_add(1, SeqCst);
        if !self.disturbed.load(SeqCst) {
            self.surprises.lock().push(failure);
        }
        false
    }
}

struct Busy<'a>(&'a Control);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, SeqCst);
    }
}

async fn use_session(planes: Planes, control: Arc<Control>, book: Arc<Mutex<Book>>, mut dice: Dice) {
    let session = book.lock().session.clone();
    let mut number = 0;
    while let Some(busy) = control.enter().await {
        let done = if dice.below(8) == 0 {
            stop(&planes, &control, &book, &session).await
        } else {
            number += 1;
            write(&planes, &control, &book, &session, number, dice.below(3)).await
        };
        drop(busy);
        if !done {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn stop(planes: &Planes, control: &Control, book: &Mutex<Book>, session: &str) -> bool {
    if book.lock().stopped {
        return true;
    }
    let answer = planes.stop(session).await;
    // Not running: something else has ended it.
    if matches!(&answer, Ok((status, _)) if *status == http::StatusCode::NOT_FOUND) {
        return true;
    }
    let done = control.acknowledged("stop", answer);
    if done {
        let mut book = book.lock();
        book.stopped = true;
        for page in &mut book.pages {
            page.durable = page.answered.clone();
        }
    }
    done
}

/// The agent, a command, or both at a time write a number.
async fn write(
    planes: &Planes,
    control: &Control,
    book: &Mutex<Book>,
    session: &str,
    number: u64,
    who: u64,
) -> bool {
    let (by_agent, by_command) = (who != 1, who != 0);
    // Two in three are made durable by who writes them, the others by the next stop.
    let sync = !number.is_multiple_of(3);
    {
        let mut book = book.lock();
        book.stopped = false;
        for (page, writes) in book.pages.iter_mut().zip([by_agent, by_command]) {
            if writes {
                page.attempted.insert(number);
            }
        }
    }
    let note = |page: usize| {
        let mut book = book.lock();
        book.pages[page].answered.insert(number);
        if sync {
            book.pages[page].durable.insert(number);
        }
    };
    let agent = async {
        if !by_agent {
            return true;
        }
        let done = control
            .acknowledged("invoke", planes.invoke(session, json!({ "number": number, "sync": sync })).await);
        if done {
            note(0);
        }
        done
    };
    let command = async {
        if !by_command {
            return true;
        }
        let and_sync = if sync { " && sync /mnt/workspace/command /mnt/workspace" } else { "" };
        let text = format!("echo {number} >> /mnt/workspace/command{and_sync}");
        let done = control.acknowledged("command", planes.command(session, &text).await);
        if done {
            note(1);
        }
        done
    };
    let (agent, command) = tokio::join!(agent, command);
    agent && command
}

async fn use_control_plane(planes: Planes, control: Arc<Control>) {
    while let Some(busy) = control.enter().await {
        let number = control.tag_attempted.fetch_add(1, SeqCst) + 1;
        if control.acknowledged("tag", planes.tag(TAG, number).await) {
            control.tag_answered.store(number, SeqCst);
        }
        drop(busy);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Chance, good enough to choose what is killed and when.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// Different in every run; printed, so that a run's choices can be repeated.
    pub fn seed() -> u64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        now.as_nanos() as u64
    }
}
