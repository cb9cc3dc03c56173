//! Where secrets are kept besides the environment: in files, and with commands that print them.

use std::{
    io::Read,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    sync::mpsc,
    time::Duration,
};

use super::{ConfigError, Origin};

/// No secret is longer, in bytes; a file that is longer was named by mistake.
const MAX_BYTES: u64 = 64 * 1024;

/// A command that gives a secret may take so long: a vault may be on another continent.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// The text of a file that holds a secret, without the line feed at its end.
pub(super) fn of_file(path: &Path, origin: &Origin) -> Result<String, ConfigError> {
    let wrong = |message: String| ConfigError::Value {
        origin: origin.clone(),
        message,
    };
    let shown = path.display();
    let size = std::fs::metadata(path)
        .map_err(|error| wrong(format!("`{shown}` cannot be read: {error}")))?
        .len();
    if size > MAX_BYTES {
        return Err(wrong(format!(
            "`{shown}` is larger than 64 KiB; is it the right file?"
        )));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| wrong(format!("`{shown}` cannot be read: {error}")))?;
    match without_line_end(&text) {
        "" => Err(wrong(format!("`{shown}` is empty"))),
        secret => Ok(secret.to_owned()),
    }
}

/// What a command prints, without the line feed at its end. It is started as it stands, by no
/// shell, in our folder and with our environment; what it says on its standard error is not
/// ours to show, because it may hold the secret.
pub(super) fn of_command(line: &str, origin: &Origin) -> Result<String, ConfigError> {
    printed(line, COMMAND_TIMEOUT).map_err(|message| ConfigError::Value {
        origin: origin.clone(),
        message,
    })
}

/// Errors name the program alone: arguments may be secret.
fn printed(line: &str, timeout: Duration) -> Result<String, String> {
    let words = shlex::split(line).ok_or("a quotation mark of the command is not closed")?;
    let (program, arguments) = words.split_first().ok_or("the command has no words")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("`{program}` cannot be started: {error}"))?;
    let output = child.stdout.take();
    let (tell, told) = mpsc::channel();
    // A thread of its own: whatever the command started may hold its output open for ever.
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = output.map_or(Ok(0), |output| {
            output.take(MAX_BYTES + 1).read_to_end(&mut bytes)
        });
        let _ = tell.send(read.map(|_| bytes));
    });
    let answered = told.recv_timeout(timeout);
    let complete = matches!(&answered, Ok(Ok(bytes)) if bytes.len() as u64 <= MAX_BYTES);
    if !complete {
        let _ = child.kill();
    }
    let ended = child
        .wait()
        .map_err(|error| format!("`{program}` cannot be waited for: {error}"))?;
    let bytes = match answered {
        Err(_) => return Err(format!("`{program}` took longer than {timeout:?}")),
        Ok(Err(error)) => return Err(format!("what `{program}` prints cannot be read: {error}")),
        Ok(Ok(bytes)) => bytes,
    };
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("`{program}` prints more than 64 KiB"));
    }
    if !ended.success() {
        return Err(format!("`{program}` {}", failure(ended)));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| format!("what `{program}` prints is not valid UTF-8"))?;
    match without_line_end(&text) {
        "" => Err(format!("`{program}` prints nothing")),
        secret => Ok(secret.to_owned()),
    }
}

fn failure(ended: ExitStatus) -> String {
    ended
        .code()
        .map_or("was killed".to_owned(), |code| format!("ended with {code}"))
}

fn without_line_end(text: &str) -> &str {
    text.trim_end_matches(['\r', '\n'])
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    #[test]
    fn a_command_gives_what_it_prints() {
        let given = |line| printed(line, LONG).unwrap();
        assert_eq!(given("printf 'a b'"), "a b");
        assert_eq!(given("echo $HOME ';' \"|\" x"), "$HOME ; | x", "no shell");
        assert_eq!(given("printf 'one\\ntwo\\n\\n'"), "one\ntwo");
    }

    #[test]
    fn a_command_that_fails_says_why_and_nothing_secret() {
        for (line, expected) in [
            ("sh -c 'echo top-secret; exit 3'", "`sh` ended with 3"),
            ("sh -c 'echo top-secret >&2; kill -9 $$'", "`sh` was killed"),
            ("sh -c '' top-secret", "`sh` prints nothing"),
            ("printf '\\377top-secret'", "UTF-8"),
            ("head -c 70000 /dev/zero", "more than 64 KiB"),
            ("yes top-secret", "more than 64 KiB"),
            ("/nowhere/at/all top-secret", "cannot be started"),
            ("printf 'top-secret", "not closed"),
            (" ", "no words"),
        ] {
            let message = printed(line, LONG).unwrap_err();
            assert!(message.contains(expected), "{line}: {message}");
            assert!(!message.contains("top-secret"), "{line}: {message}");
        }
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let message = printed("tail -f /dev/null", Duration::from_millis(50)).unwrap_err();
        assert!(message.contains("`tail` took longer"), "{message}");
    }
}
