//! Interactive shells: the WebSocket protocol by a client that was written from its description, by the official
//! client, and by `shell` in a pseudo-terminal.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portable_pty::{CommandBuilder, NativePtySystem, PtySize, PtySystem};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket, client};

use crate::support::{self, Emulator, Project};

const LIMIT: Duration = Duration::from_secs(60);
const SESSION: &str = "shell-session-0123456789abcdef0123456789";

/// An emulator with a deployed agent.
pub(crate) struct World {
    pub(crate) emulator: Emulator,
    project: Project,
    pub(crate) arn: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let (emulator, project) = (Emulator::start(&[]), Project::new("lab", "lab", json!({})));
        let deployed = emulator.run(project.path(), &["local", "deploy", "--output", "json"]);
        let deployed: Value = serde_json::from_slice(&deployed.stdout).unwrap();
        let arn = deployed["agentRuntimeArn"].as_str().unwrap().to_owned();
        Self { emulator, project, arn }
    }

    /// A shell of a session of any emulator.
    pub(crate) fn shell(endpoint: &str, arn: &str, session: &str, shell: &str) -> Shell {
        Self::try_shell(endpoint, arn, session, shell).unwrap()
    }

    fn url(endpoint: &str, arn: &str, session: &str, shell: &str) -> String {
        let arn = arn.replace(':', "%3A").replace('/', "%2F");
        let address = endpoint.trim_start_matches("http://");
        let session = format!("X-Amzn-Bedrock-AgentCore-Runtime-Session-Id={session}");
        format!("ws://{address}/runtimes/{arn}/ws/shells?qualifier=DEFAULT&shellId={shell}&{session}")
    }

    fn connect(&self, session: &str, shell: &str) -> Shell {
        self.try_connect(session, shell).unwrap()
    }

    fn try_connect(&self, session: &str, shell: &str) -> Result<Shell, (u16, Value)> {
        Self::try_shell(self.emulator.endpoint(), &self.arn, session, shell)
    }

    fn try_shell(endpoint: &str, arn: &str, session: &str, shell: &str) -> Result<Shell, (u16, Value)> {
        let address = endpoint.trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let request = Self::url(endpoint, arn, session, shell).into_client_request().unwrap();
        match client(request, stream) {
            Ok((socket, response)) => {
                assert_eq!(response.headers()["x-amzn-bedrock-agentcore-shell-id"], shell);
                assert_eq!(response.headers()["x-amzn-bedrock-agentcore-runtime-session-id"], session);
                let mut shell = Shell { socket, shown: String::new(), closed: None, status: Vec::new() };
                while shell.status.is_empty() {
                    assert!(shell.step(), "closed before its first status");
                }
                Ok(shell)
            }
            Err(tokio_tungstenite::tungstenite::HandshakeError::Failure(Error::Http(response))) => {
                let body = response.body().clone().unwrap_or_default();
                Err((response.status().as_u16(), serde_json::from_slice(&body).unwrap()))
            }
            Err(e) => panic!("{e}"),
        }
    }
}

pub(crate) struct Shell {
    socket: WebSocket<TcpStream>,
    shown: String,
    closed: Option<u16>,
    status: Vec<Value>,
}

impl Shell {
    pub(crate) fn send(&mut self, channel: u8, content: &[u8]) {
        let frame = [&[channel], content].concat();
        self.socket.send(Message::Binary(frame.into())).unwrap();
    }

    /// A program in the foreground gets a signal from a key. It says itself that it is there: until then the key
    /// would be the shell's, which goes on and starts it.
    pub(crate) fn interrupted(&mut self) {
        self.send(0, b"sh -c 'echo runs-$((40+2)); exec sleep 1000'\n");
        self.until("runs-42");
        self.send(0, b"\x03");
    }

    /// Takes one message; false when there are no more.
    fn step(&mut self) -> bool {
        match self.socket.read() {
            Ok(Message::Binary(frame)) => {
                let (channel, content) = frame.split_first().unwrap();
                match channel {
                    1 => self.shown.push_str(&String::from_utf8_lossy(content)),
                    3 => self.status.push(serde_json::from_slice(content).unwrap()),
                    5 => self.shown.push_str("<heartbeat>"),
                    255 => self.shown.push_str("<close>"),
                    _ => {}
                }
                true
            }
            Ok(Message::Close(frame)) => {
                self.closed = frame.map(|f| f.code.into());
                let _ = self.socket.flush();
                false
            }
            Ok(_) => true,
            Err(_) => false,
        }
    }

    #[track_caller]
    pub(crate) fn until(&mut self, text: &str) {
        while !self.shown.contains(text) {
            assert!(self.step(), "closed with {:?} before `{text}` in {:?}", self.closed, self.shown);
        }
    }

    pub(crate) fn read_to_the_end(&mut self) {
        while self.step() {}
    }

    /// It has shown this and ended with this code.
    #[track_caller]
    pub(crate) fn ended_with(&self, shown: &str, code: &str) {
        assert!(self.shown.contains(shown), "{}", self.shown);
        let causes = json!([{ "reason": "ExitCode", "message": code }]);
        assert_eq!(self.status.last().unwrap()["details"]["causes"], causes);
    }
}

#[test]
fn a_shell_is_a_terminal_with_a_size_and_an_exit_code() {
    let world = World::new();
    let mut shell = world.connect(SESSION, "one");
    assert_eq!(
        shell.status[0]["metadata"],
        json!({ "shellId": "one", "commandSessionId": "one", "reconnected": false })
    );
    shell.send(4, br#"{"width": 121, "height": 41}"#);
    shell.send(0, b"stty size; tty; echo $TERM; id -u; pwd\n");
    shell.until("41 121");
    shell.until("/dev/pts/");
    shell.until("xterm-256color\r\n0\r\n/var/task");
    shell.send(5, b"");
    shell.until("<heartbeat>");
    // Its processes get signals from keys.
    shell.interrupted();
    shell.send(0, b"echo after-$((1+1)); exit 7\n");
    shell.read_to_the_end();
    assert!(shell.shown.contains("after-2"), "{}", shell.shown);
    let end = &shell.status[1];
    assert_eq!((end["status"].as_str(), end["metadata"].clone()), (Some("Failure"), json!({})));
    assert_eq!(end["details"]["causes"], json!([{ "reason": "ExitCode", "message": "7" }]));
    assert_eq!(shell.closed, Some(1000));
    // One that a signal ends says so; one that ends well is a success.
    let mut shell = world.connect(SESSION, "two");
    shell.send(0, b"kill -9 $$\n");
    shell.read_to_the_end();
    let causes = json!([{ "reason": "ExitCode", "message": "137" }, { "reason": "Signal", "message": "9" }]);
    assert_eq!(shell.status[1]["details"]["causes"], causes);
    let mut shell = world.connect(SESSION, "three");
    shell.send(0, b"exit\n");
    shell.read_to_the_end();
    assert_eq!(shell.status[1]["status"], "Success");
    // The client can ask for the end.
    let mut shell = world.connect(SESSION, "four");
    shell.send(255, b"");
    shell.read_to_the_end();
    assert_eq!(shell.closed, Some(1000));
}

#[test]
fn a_shell_lives_on_and_shows_again_what_it_has_shown() {
    let world = World::new();
    let mut shell = world.connect(SESSION, "main");
    shell.send(0, b"X=kept; cd /tmp; echo marker-$((40+2))\n");
    shell.until("marker-42\r\n");
    // What nobody sees is kept, up to 256 KB.
    shell.send(0, b"sleep 0.5; seq 1 100000; echo the-end-$((1+1))\n");
    drop(shell);
    let mut shell = world.connect(SESSION, "main");
    shell.until("the-end-2");
    drop(shell);
    let mut shell = world.connect(SESSION, "main");
    shell.until("the-end-2");
    assert_eq!(shell.status[0]["metadata"]["reconnected"], true);
    assert!(!shell.shown.contains("marker-42"), "more than the bound was kept");
    assert!((200_000..300_000).contains(&shell.shown.len()), "{}", shell.shown.len());
    shell.send(0, b"echo $X in $PWD\n");
    shell.until("kept in /tmp");
    // Another connection takes it, and the first is told.
    let mut second = world.connect(SESSION, "main");
    shell.read_to_the_end();
    assert_eq!(shell.closed, Some(4000));
    second.send(0, b"echo taken-$((2+2))\n");
    second.until("taken-4");
    // A detached shell keeps no session: its end takes the shell with it.
    drop(second);
    let run = world
        .emulator
        .command()
        .current_dir(world.project.path())
        .args(["local", "stop", "--session", SESSION])
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let shell = world.connect(SESSION, "main");
    assert_eq!(shell.status[0]["metadata"]["reconnected"], false);
}

#[test]
fn rules_of_the_connection_hold() {
    let world = World::new();
    let mut shell = world.connect(SESSION, "one");
    for _ in 0..5 {
        shell.socket.send(Message::Text("x".into())).unwrap();
    }
    shell.read_to_the_end();
    assert_eq!(shell.closed, Some(1003));
    for bytes in [65 * 1024, 2 * 1024 * 1024] {
        let mut shell = world.connect(SESSION, "one");
        // The rest of a frame that is refused may find nobody.
        let _ = shell.socket.send(Message::Binary(vec![0; bytes].into()));
        shell.read_to_the_end();
        assert!(matches!(shell.closed, Some(1009) | None), "{:?}", shell.closed);
    }
    let (status, error) = world.try_connect("short", "one").err().unwrap();
    assert_eq!((status, error["fieldList"][0]["name"].as_str()), (400, Some("runtimeSessionId")));
    assert_eq!(world.try_connect(SESSION, "a%20b").err().unwrap().0, 400);
    let shells: Vec<Shell> = (2..=10).map(|n| world.connect(SESSION, &format!("shell-{n}"))).collect();
    let (status, error) = world.try_connect(SESSION, "shell-11").err().unwrap();
    assert_eq!(
        (status, error["message"].as_str()),
        (424, Some("the runtime has 10 shells, the most it may have"))
    );
    // Stopping the session tells every one of them.
    let mut stop = world.emulator.command();
    stop.current_dir(world.project.path()).args(["local", "stop", "--session", SESSION]);
    support::succeed(&mut stop);
    for mut shell in shells {
        shell.read_to_the_end();
        assert!(shell.shown.ends_with("<close>"), "{}", shell.shown);
        assert_eq!(shell.closed, Some(1001));
    }
}

/// `shell` in a pseudo-terminal.
pub(crate) struct Screen {
    writer: Box<dyn Write + Send>,
    shown: Arc<Mutex<Vec<u8>>>,
    child: Box<dyn portable_pty::Child + Send + Sync>,
    master: Box<dyn portable_pty::MasterPty + Send>,
}

impl Screen {
    pub(crate) fn open(command: &Command) -> Self {
        let size = PtySize { rows: 30, cols: 100, pixel_width: 0, pixel_height: 0 };
        let pair = NativePtySystem::default().openpty(size).unwrap();
        let mut builder = CommandBuilder::new(command.get_program());
        builder.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => builder.env(name, value),
                None => builder.env_remove(name),
            }
        }
        builder.cwd(command.get_current_dir().unwrap());
        let child = pair.slave.spawn_command(builder).unwrap();
        let mut reader = pair.master.try_clone_reader().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let all = shown.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                all.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { writer: pair.master.take_writer().unwrap(), shown, child, master: pair.master }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    #[track_caller]
    pub(crate) fn until(&self, text: &str) {
        let end = std::time::Instant::now() + LIMIT;
        while !self.text().contains(text) {
            assert!(std::time::Instant::now() < end, "no `{text}` in {:?}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn type_in(&mut self, text: &str) {
        self.writer.write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn code(&mut self) -> u32 {
        self.child.wait().unwrap().exit_code()
    }
}

/// Leaves the shell that the command line `make` gives, comes back to it and ends it.
pub(crate) fn left_and_found_again(make: &dyn Fn(&[&str]) -> Command) {
    let mut screen = Screen::open(&make(&[]));
    screen.until("Ctrl+] leaves the shell running");
    screen.type_in("stty size; X=kept\r");
    screen.until("30 100");
    let size = PtySize { rows: 20, cols: 70, pixel_width: 0, pixel_height: 0 };
    screen.master.resize(size).unwrap();
    // The size travels by a signal; the line is asked until it has arrived.
    let mut pause = Duration::from_millis(50);
    support::eventually(LIMIT, "the new size has arrived", || {
        screen.type_in("stty size\r");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_secs(2));
        screen.text().contains("20 70").then_some(())
    });
    screen.type_in("\x1d");
    assert_eq!(screen.code(), 0, "{}", screen.text());
    screen.until("--session term --reattach` comes back");
    // Back in it, with its variables; its exit code is ours.
    let mut screen = Screen::open(&make(&["--reattach"]));
    screen.until("30 100");
    screen.type_in("echo =$X=; exit 5\r");
    screen.until("=kept=");
    assert_eq!(screen.code(), 5, "{}", screen.text());
    screen.until("the shell has ended with exit code 5");
    // Nothing was left this time.
    let mut screen = Screen::open(&make(&["--reattach"]));
    assert_eq!(screen.code(), 1, "{}", screen.text());
    screen.until("was left running");
}

#[test]
fn the_shell_verb_is_left_and_found_again_on_both_targets() {
    let world = World::new();
    let cloud_home = support::short_temp_dir();
    let local = |args: &[&str]| {
        let mut command = world.emulator.command();
        command.current_dir(world.project.path()).args(["local", "shell", "--session", "term"]).args(args);
        command
    };
    let cloud = |args: &[&str]| {
        let mut command = world.emulator.command();
        command.env("AGENTCORE_HOME", cloud_home.path()).current_dir(cloud_home.path());
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        command.args([
            "shell",
            "--session",
            "term",
            "--arn",
            &world.arn,
            "--endpoint-url",
            world.emulator.endpoint(),
        ]);
        command.args(args);
        command
    };
    type Maker<'a> = &'a dyn Fn(&[&str]) -> Command;
    let commands: [Maker<'_>; 2] = [&local, &cloud];
    for make in commands {
        left_and_found_again(make);
    }
    // Without a terminal there is another verb.
    let run: crate::cli::Run = local(&[]).output().unwrap().into();
    let expected = "error: `shell` needs a terminal for its input and its output\nhint: `agentcore local exec` runs commands without one\n";
    assert_eq!((run.status, run.stdout.as_str(), run.stderr.as_str()), (2, "", expected));
}

/// What carries bytes between a client and the emulator, until it is cut.
struct Wire {
    port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
    refuses: Arc<std::sync::atomic::AtomicBool>,
}

impl Wire {
    fn new(endpoint: &str) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = endpoint.trim_start_matches("http://").to_owned();
        let (open, refuses) =
            (Arc::new(Mutex::new(Vec::new())), Arc::new(std::sync::atomic::AtomicBool::new(false)));
        let (all, closed) = (open.clone(), refuses.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if closed.load(std::sync::atomic::Ordering::SeqCst) {
                    continue;
                }
                let server = TcpStream::connect(&target).unwrap();
                for (mut from, mut to) in [
                    (client.try_clone().unwrap(), server.try_clone().unwrap()),
                    (server.try_clone().unwrap(), client.try_clone().unwrap()),
                ] {
                    // It ends when the wire is cut or either side leaves.
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
                all.lock().unwrap().extend([client, server]);
            }
        });
        Self { port, open, refuses }
    }

    /// Cuts every connection; with `for_good`, new ones too.
    fn cut(&self, for_good: bool) {
        self.refuses.store(for_good, std::sync::atomic::Ordering::SeqCst);
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

#[test]
fn a_cut_connection_is_made_again_and_shows_what_was_missed() {
    let world = World::new();
    let home = support::short_temp_dir();
    let wire = Wire::new(world.emulator.endpoint());
    let endpoint = format!("http://127.0.0.1:{}", wire.port);
    let mut command = world.emulator.command();
    command.env("AGENTCORE_HOME", home.path()).current_dir(home.path());
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    command.args(["shell", "--session", "cut", "--arn", &world.arn, "--endpoint-url", &endpoint]);
    let mut screen = Screen::open(&command);
    let modes = |screen: &Screen| {
        let modes = screen.master.get_termios().unwrap();
        use nix::sys::termios::LocalFlags;
        let lines = (LocalFlags::ICANON | LocalFlags::ECHO).bits();
        modes.local_flags.bits() & lines == lines
    };
    screen.until("Ctrl+] leaves the shell running");
    screen.type_in("X=kept; (sleep 2; echo missed-$((40+2))) & echo one-$((1+1))\r");
    screen.until("one-2");
    assert!(!modes(&screen), "the keys are not raw");
    wire.cut(false);
    screen.until("; connecting again, Ctrl+] gives up]");
    // The screen is emptied, and what was on it comes again with what was written meanwhile.
    screen.until("\u{1b}[H\u{1b}[2J");
    let shown = screen.text();
    let again = shown.rsplit_once("\u{1b}[H\u{1b}[2J").unwrap().0.len();
    screen.until("missed-42");
    screen.type_in("echo =$X=\r");
    screen.until("=kept=");
    assert!(screen.text()[again..].contains("one-2"), "{:?}", screen.text());
    // A connection that cannot be made again is given up by the same key, and the shell is not lost.
    wire.cut(true);
    let tries = |screen: &Screen| screen.text().matches("; connecting again").count();
    support::eventually(LIMIT, "it tries twice", || (tries(&screen) >= 3).then_some(()));
    screen.type_in("\x1d");
    assert_eq!(screen.code(), 0, "{}", screen.text());
    screen.until("left the shell running; `agentcore shell --session cut --reattach` comes back");
    assert!(modes(&screen), "the terminal is not what it was");
    wire.cut(false);
    command.arg("--reattach");
    let mut screen = Screen::open(&command);
    screen.until("=kept=");
    screen.type_in("exit 3\r");
    assert_eq!(screen.code(), 3, "{}", screen.text());
}
