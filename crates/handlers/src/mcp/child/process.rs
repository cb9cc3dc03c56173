//! One process: started, fed, read, and ended with everything that it started itself.

use std::{process::Stdio, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    sync::mpsc,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::Program;

/// Told to end, a process has so long: after its input is closed, and after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(2);

/// So many lines wait to be written to it; who has more waits.
const INPUT: usize = 32;

/// Of what it writes to stderr, so many lines are logged in a stretch of time, each so long.
const LOGGED_LINES: u32 = 50;
const LOGGED_STRETCH: Duration = Duration::from_secs(10);
const LOGGED_BYTES: usize = 1024;

/// A started process.
pub(super) struct Process {
    child: Child,
    group: Group,
    stdout: ChildStdout,
    stdin: ChildStdin,
    stderr: ChildStderr,
}

/// A process and what it started, as one: nothing of it outlives this.
struct Group(Option<rustix::process::Pid>);

impl Group {
    fn signal(&self, signal: rustix::process::Signal) {
        if let Some(group) = self.0 {
            // There may be nobody left.
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(rustix::process::Signal::KILL);
    }
}

impl Process {
    pub(super) fn start(program: &Program) -> std::io::Result<Self> {
        let mut command = Command::new(&program.path);
        command
            .args(&program.arguments)
            .env_clear()
            .envs(
                program
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(folder) = &program.folder {
            command.current_dir(folder);
        }
        let mut child = command.spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let group = Group(id.and_then(rustix::process::Pid::from_raw));
        let pipe = || std::io::Error::other("a pipe is missing");
        Ok(Self {
            stdin: child.stdin.take().ok_or_else(pipe)?,
            stdout: child.stdout.take().ok_or_else(pipe)?,
            stderr: child.stderr.take().ok_or_else(pipe)?,
            child,
            group,
        })
    }

    /// Takes care of it until it has ended. `line` gets what it writes; the sender takes what
    /// it is to read. Ends it when `stop` says so.
    pub(super) async fn run<F: Future<Output = ()> + Send>(
        self,
        program: Arc<Program>,
        mut input: mpsc::Receiver<Vec<u8>>,
        stop: CancellationToken,
        line: impl Fn(Vec<u8>) -> F + Send,
    ) {
        let Self {
            mut child,
            group,
            stdout,
            mut stdin,
            stderr,
        } = self;
        let service = program.service.as_str();
        let process = child.id();
        let logging = tokio::spawn(log(stderr, Arc::clone(&program), process));
        let writing = async {
            while let Some(mut text) = input.recv().await {
                text.push(b'\n');
                if stdin.write_all(&text).await.is_err() || stdin.flush().await.is_err() {
                    break;
                }
            }
            // It may have closed its input and still answer what it read.
            std::future::pending::<()>().await;
        };
        let reading = async {
            let mut lines = Lines::new(stdout, program.limit);
            loop {
                match lines.next().await {
                    Ok(Some(text)) => line(text).await,
                    Ok(None) => break,
                    Err(TooLong) => {
                        tracing::warn!(
                            service,
                            process,
                            limit = program.limit,
                            "an MCP server wrote a line that is too long; it is ended"
                        );
                        break;
                    }
                }
            }
        };
        tokio::select! {
            () = reading => {}
            () = writing => {}
            () = stop.cancelled() => {}
        }
        drop(stdin);
        let mut ended = tokio::time::timeout(PATIENCE, child.wait()).await;
        if ended.is_err() {
            group.signal(rustix::process::Signal::TERM);
            ended = tokio::time::timeout(PATIENCE, child.wait()).await;
        }
        if ended.is_err() {
            tracing::warn!(service, process, "an MCP server does not end; it is killed");
            group.signal(rustix::process::Signal::KILL);
            ended = Ok(child.wait().await);
        }
        // Whatever it started goes with it, and then nobody writes to its stderr.
        drop(group);
        let _ = tokio::time::timeout(PATIENCE, logging).await;
        let status = ended
            .ok()
            .and_then(Result::ok)
            .map(|status| status.to_string());
        tracing::info!(service, process, status, "an MCP server's process ended");
    }
}

pub(super) fn input() -> (mpsc::Sender<Vec<u8>>, mpsc::Receiver<Vec<u8>>) {
    mpsc::channel(INPUT)
}

/// Logs what a process writes to stderr: not all of it, if it is much.
async fn log(stderr: ChildStderr, program: Arc<Program>, process: Option<u32>) {
    let mut reader = BufReader::new(stderr);
    let (mut line, mut cut) = (Vec::new(), false);
    // So much more is read that no secret is cut in two, of which nothing would be hidden.
    let most = LOGGED_BYTES + program.secrets.longest();
    let (mut left, mut since, mut lost) = (LOGGED_LINES, Instant::now(), 0_u64);
    loop {
        let Ok(available) = reader.fill_buf().await else {
            return;
        };
        if available.is_empty() {
            return;
        }
        let end = available.iter().position(|&byte| byte == b'\n');
        let part = available
            .get(..end.unwrap_or(available.len()))
            .unwrap_or_default();
        let room = most.saturating_sub(line.len());
        cut |= line.len() + part.len() > LOGGED_BYTES;
        line.extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
        let taken = part.len() + usize::from(end.is_some());
        reader.consume(taken);
        if end.is_none() {
            continue;
        }
        if since.elapsed() > LOGGED_STRETCH {
            if lost > 0 {
                tracing::info!(
                    service = program.service,
                    process,
                    lost,
                    "an MCP server wrote more than is logged"
                );
            }
            (left, since, lost) = (LOGGED_LINES, Instant::now(), 0);
        }
        let text = std::mem::take(&mut line);
        if left == 0 {
            lost += 1;
        } else {
            left -= 1;
            let mut text = program.secrets.hide(text.into());
            text.truncate(LOGGED_BYTES);
            let text = String::from_utf8_lossy(&text);
            let said: String = text
                .trim_end()
                .chars()
                .flat_map(char::escape_debug)
                .collect();
            tracing::info!(
                service = program.service,
                process,
                said,
                cut,
                "an MCP server says"
            );
        }
        cut = false;
    }
}

/// A line is longer than is read.
#[derive(Debug)]
pub(super) struct TooLong;

/// Lines of bounded length.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    limit: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R, limit: usize) -> Self {
        Self {
            reader: BufReader::with_capacity(64 * 1024, reader),
            limit,
        }
    }

    /// The next line, without its end; nothing when there are no more.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let mut line = Vec::new();
        loop {
            let Ok(available) = self.reader.fill_buf().await else {
                return Ok(None);
            };
            if available.is_empty() {
                // What ends without a line's end is not whole.
                return Ok(None);
            }
            let end = available.iter().position(|&byte| byte == b'\n');
            let part = available
                .get(..end.unwrap_or(available.len()))
                .unwrap_or_default();
            if line.len() + part.len() > self.limit {
                return Err(TooLong);
            }
            line.extend_from_slice(part);
            let taken = part.len() + usize::from(end.is_some());
            self.reader.consume(taken);
            if end.is_some() {
                if line.ends_with(b"\r") {
                    line.pop();
                }
                return Ok(Some(line));
            }
        }
    }
}
