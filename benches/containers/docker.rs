//! The yardstick: the `docker` command line, with an image that has the agent of the benchmarks.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::{free_port, loopback};

/// As runtimes must call it; a tag comes behind it.
const NAME: &str = "123456789012.dkr.ecr.us-west-2.amazonaws.com/agentcore-bench";
const PATH: &str = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Longest time until a container answers.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs `docker` to its end; what it printed, or what it said of its failure.
fn docker(args: &[&str]) -> Result<String, String> {
    let output = Command::new("docker").args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("`docker` cannot be run: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(format!("`docker {}`: {}", args[0], String::from_utf8_lossy(&output.stderr).trim()))
}

/// The same of another program.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{command:?}: {e}"))?;
    let said = || format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    output.status.success().then_some(()).ok_or_else(said)
}

/// What a program that is not static is linked with; `ldd` says nothing of a static one.
fn libraries(program: &Path) -> Vec<String> {
    let listed = Command::new("ldd").arg(program).output().map(|output| output.stdout).unwrap_or_default();
    let path = |line: &str| {
        let words = line.split_whitespace().find(|word| word.starts_with('/'));
        words.map(str::to_owned)
    };
    String::from_utf8_lossy(&listed).lines().filter_map(path).collect()
}

/// The image. Goes with the value.
pub struct Image {
    pub name: String,
}

impl Image {
    /// Busybox with this very program in it as the agent; or what is missing for that.
    pub fn make() -> Result<Self, String> {
        docker(&["version", "--format", "{{.Server.Version}}"])?;
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let lab =
            std::env::var_os("AGENTCORE_LAB").ok_or("there is no `AGENTCORE_LAB` with roots of images")?;
        let busybox = PathBuf::from(lab).join(format!("roots/busybox-{architecture}.tar"));
        let scratch = tempfile::tempdir().map_err(|e| e.to_string())?;
        let (root, archive) = (scratch.path().join("root"), scratch.path().join("root.tar"));
        std::fs::create_dir(&root).map_err(|e| e.to_string())?;
        run(Command::new("tar").arg("-C").arg(&root).arg("-xf").arg(&busybox))?;
        let this = std::env::current_exe().map_err(|e| e.to_string())?;
        run(Command::new("cp").arg(&this).arg(root.join("agent")))?;
        for library in libraries(&this) {
            run(Command::new("cp").args(["--parents", "-L", &library]).arg(&root))?;
        }
        run(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg("."))?;
        let start = r#"CMD ["/agent", "agent", "0.0.0.0:8080"]"#;
        // Another run at the same time has its own.
        let name = format!("{NAME}:{}", std::process::id());
        docker(&["import", "--change", PATH, "--change", start, &archive.display().to_string(), &name])?;
        Ok(Self { name })
    }

    /// Runs it with its port published, as one does, and waits until its agent is healthy.
    pub fn run(&self) -> (Container, Duration) {
        let port = free_port();
        let begin = Instant::now();
        let id = docker(&["run", "--detach", "--publish", &format!("127.0.0.1:{port}:8080"), &self.name]);
        let container = Container(id.unwrap());
        while !healthy(port) {
            assert!(begin.elapsed() < LIMIT, "the container does not answer");
            std::thread::sleep(Duration::from_micros(500));
        }
        (container, begin.elapsed())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if let Err(e) = docker(&["image", "rm", "--force", &self.name]) {
            eprintln!("the image was not removed: {e}");
        }
    }
}

fn healthy(port: u16) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(loopback(port))?;
        stream.write_all(b"GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    // The daemon's proxy takes connections before the agent does, and closes them.
    ask().is_ok_and(|answer: String| answer.starts_with("HTTP/1.1 200"))
}

/// A container. Goes with the value.
pub struct Container(String);

impl Container {
    /// `docker exec`, from its spawn to its end; gives how much it wrote, too.
    pub fn exec(&self, argv: &[&str]) -> (Duration, usize) {
        let begin = Instant::now();
        let mut child = Command::new("docker")
            .args(["exec", &self.0])
            .args(argv)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut output, mut total) = (child.stdout.take().unwrap(), 0);
        let mut buffer = vec![0; 64 << 10];
        loop {
            match output.read(&mut buffer).unwrap() {
                0 => break,
                count => total += count,
            }
        }
        let status = child.wait().unwrap();
        let took = begin.elapsed();
        assert!(status.success(), "`docker exec {argv:?}`: {status}");
        (took, total)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Err(e) = docker(&["rm", "--force", &self.0]) {
            eprintln!("the container was not removed: {e}");
        }
    }
}
