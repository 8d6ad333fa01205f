//! `docker run` as the command: the client starts nothing by itself, the daemon does. Owns reading such a command line, and learning
//! by Docker's own `--cidfile` which container it is. It must not know what is done with that.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, chown},
    path::{Path, PathBuf},
};

use crate::{
    command::User,
    runtime::{ContainerId, cgroup_name},
};

/// Options of the client, before its verb, that take a value: docker(1).
const CLIENT_VALUES: [&str; 10] = [
    "--config",
    "--context",
    "-c",
    "--host",
    "-H",
    "--log-level",
    "-l",
    "--tlscacert",
    "--tlscert",
    "--tlskey",
];
/// Options of `docker run` that take none: docker-run(1), 20.10 to 28. All others take one.
const RUN_SWITCHES: [&str; 20] = [
    "--detach",
    "-d",
    "--disable-content-trust",
    "--help",
    "--init",
    "--interactive",
    "-i",
    "--no-healthcheck",
    "--oom-kill-disable",
    "--privileged",
    "--publish-all",
    "-P",
    "--quiet",
    "-q",
    "--read-only",
    "--rm",
    "--sig-proxy",
    "--tty",
    "-t",
    "--use-api-socket",
];

/// In khard's own folder, the command's user's.
const OF_USER: &str = "user";

/// What a command line is to Docker.
#[derive(Debug, PartialEq, Eq)]
enum Client {
    /// `docker run`.
    Run {
        /// Where its options begin.
        options_at: usize,
        /// Where it is to write the container's id, if it says so itself.
        cidfile: Option<PathBuf>,
        /// The daemon's address, if it says that.
        host: Option<String>,
    },
    /// It has containers started too, and its command line does not say which.
    Other(String),
}

impl Client {
    /// Reads a command line. Only the program's own name counts: a script that calls docker is a command as any other.
    fn of(argv: &[OsString]) -> Option<Self> {
        let name = Path::new(argv.first()?).file_name()?.to_str()?;
        let run = if name == "docker" { Self::run(argv) } else { None };
        let is_client = matches!(name, "docker" | "docker-compose" | "podman" | "nerdctl");
        run.or_else(|| is_client.then(|| Self::Other(name.to_owned())))
    }

    fn run(argv: &[OsString]) -> Option<Self> {
        let words: Vec<_> = argv.iter().map(|word| word.to_string_lossy()).collect();
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        let (options, n) = read_options(&words[1..], |name| CLIENT_VALUES.contains(&name));
        let host = value(&options, &["-H", "--host"]);
        let mut verb_at = 1 + n;
        verb_at += usize::from(words.get(verb_at) == Some(&"container"));
        if words.get(verb_at) != Some(&"run") {
            return None;
        }
        let options_at = verb_at + 1;
        let (options, _) = read_options(&words[options_at..], |name| !RUN_SWITCHES.contains(&name));
        let cidfile = value(&options, &["--cidfile"]).map(PathBuf::from);
        Some(Self::Run { options_at, cidfile, host })
    }
}

/// An option's name, with its dashes, and its value.
type CommandOption<'w> = (String, &'w str);

/// Reads options as Docker's client does (<https://github.com/spf13/pflag>): up to the first word that is none. Returns how many words
/// they are.
fn read_options<'w>(
    words: &[&'w str],
    takes_value: impl Fn(&str) -> bool,
) -> (Vec<CommandOption<'w>>, usize) {
    let (mut options, mut at) = (Vec::new(), 0);
    while let Some(word) = words.get(at).copied().filter(|word| word.len() > 1 && word.starts_with('-')) {
        at += 1;
        if word == "--" {
            break;
        }
        let mut next = || {
            at += 1;
            words.get(at - 1).copied().unwrap_or_default()
        };
        if word.starts_with("--") {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, value),
                None => (word, if takes_value(word) { next() } else { "" }),
            };
            options.push((name.to_owned(), value));
            continue;
        }
        for (i, letter) in word.char_indices().skip(1) {
            let (name, rest) = (format!("-{letter}"), &word[i + letter.len_utf8()..]);
            if !takes_value(&name) {
                options.push((name, ""));
                continue;
            }
            let value = if rest.is_empty() { next() } else { rest.strip_prefix('=').unwrap_or(rest) };
            options.push((name, value));
            break;
        }
    }
    (options, at)
}

/// The value of an option, by any of its names; the last one counts.
fn value(options: &[CommandOption<'_>], names: &[&str]) -> Option<String> {
    let given = options.iter().rev().find(|(name, _)| names.contains(&name.as_str()));
    given.map(|(_, value)| (*value).to_owned())
}

/// `docker run` cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error("cannot make {} for docker run to write the container's id to", path.display())]
pub struct CidFileError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// A `docker run` that is about to be started.
#[derive(Debug)]
pub(super) struct DockerRun {
    /// The command, which says where the container's id goes.
    pub(super) argv: Vec<OsString>,
    /// The daemon's address, if the command says it.
    pub(super) host: Option<String>,
    cidfile: PathBuf,
    /// The folder of a file of khard's own.
    own_dir: Option<PathBuf>,
    /// The file is there already: the client refuses to run.
    is_stale: bool,
}

/// Whether a command starts a container that is recorded in its place.
pub(crate) fn starts_container(argv: &[OsString]) -> bool {
    matches!(Client::of(argv), Some(Client::Run { .. }))
}

impl DockerRun {
    /// Prepares to follow a command, if it is a `docker run`; `user` is who runs it. Of other clients it says that their containers
    /// are not recorded, unless all new ones are.
    pub(super) fn of(
        argv: &[OsString],
        user: Option<&User>,
        takes_new: bool,
    ) -> Result<Option<Self>, CidFileError> {
        let (options_at, cidfile, host) = match Client::of(argv) {
            None => return Ok(None),
            Some(Client::Other(_)) if takes_new => return Ok(None),
            Some(Client::Other(name)) => {
                tracing::warn!(
                    "recording the client {name} itself, not the containers that it has started: --containers records them too"
                );
                return Ok(None);
            }
            Some(Client::Run { options_at, cidfile, host }) => (options_at, cidfile, host),
        };
        tracing::warn!("recording the container that docker run starts, not the client");
        let mut argv = argv.to_owned();
        let (cidfile, own_dir) = if let Some(path) = cidfile {
            (path, None)
        } else {
            let dir = own_dir(user)?;
            let path = dir.join(OF_USER).join("cid");
            argv.splice(options_at..options_at, [OsString::from("--cidfile"), path.clone().into()]);
            (path, Some(dir))
        };
        let is_stale = own_dir.is_none() && cidfile.exists();
        Ok(Some(Self { argv, host, cidfile, own_dir, is_stale }))
    }

    /// The container's id, once Docker has made it. The client writes it before it has the container started.
    pub(super) fn container(&self) -> Option<ContainerId> {
        let id = if self.is_stale { None } else { read_id(&self.cidfile) }?;
        cgroup_name::is_id(&id).then_some(ContainerId(id))
    }
}

/// What an id's file holds. It is the command's user's, who could put anything in its place.
fn read_id(path: &Path) -> Option<String> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut id = String::new();
    file.take(cgroup_name::ID_CHARS as u64 + 1).read_to_string(&mut id).ok()?;
    Some(id)
}

impl Drop for DockerRun {
    fn drop(&mut self) {
        if let Some(dir) = &self.own_dir {
            // Nothing is lost with what cannot be removed.
            let _ = fs::remove_file(&self.cidfile);
            let _ = fs::remove_dir(dir.join(OF_USER));
            let _ = fs::remove_dir(dir);
        }
    }
}

/// A folder of root's, which nobody can put another in the place of, and in it one of the command's user's. It must be new: who guesses
/// its name gains a refusal.
fn own_dir(user: Option<&User>) -> Result<PathBuf, CidFileError> {
    let path = std::env::temp_dir().join(format!("khard-docker-run-{}", std::process::id()));
    let failed = |source| CidFileError { path: path.clone(), source };
    DirBuilder::new().mode(0o711).create(&path).map_err(failed)?;
    let of_user = path.join(OF_USER);
    let made = DirBuilder::new().mode(0o700).create(&of_user).and_then(|()| match user {
        Some(user) => chown(&of_user, Some(user.uid()), Some(user.gid())),
        None => Ok(()),
    });
    if let Err(error) = made {
        let _ = fs::remove_dir(&of_user);
        let _ = fs::remove_dir(&path);
        return Err(failed(error));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(line: &str) -> Option<Client> {
        Client::of(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    /// Where the options of `docker run` begin, its file, and the daemon's address.
    fn run(line: &str) -> Option<(usize, Option<String>, Option<String>)> {
        match client(line)? {
            Client::Run { options_at, cidfile, host } => {
                Some((options_at, cidfile.map(|path| path.display().to_string()), host))
            }
            Client::Other(_) => None,
        }
    }

    #[test]
    fn docker_run_is_found_behind_the_client_s_own_options() {
        for (line, options_at) in [
            ("docker run busybox true", 2),
            ("/usr/bin/docker container run -it busybox", 3),
            ("docker -D --log-level debug --context=x run busybox", 6),
            ("docker -Dl debug run busybox", 4),
        ] {
            assert_eq!(run(line), Some((options_at, None, None)), "{line}");
        }
        for (line, host) in [
            ("docker -H unix:///d.sock run busybox", "unix:///d.sock"),
            ("docker -Hunix:///d.sock run busybox", "unix:///d.sock"),
            ("docker --host=unix:///d.sock run -H other busybox", "unix:///d.sock"),
        ] {
            assert_eq!(run(line).and_then(|(_, _, host)| host).as_deref(), Some(host), "{line}");
        }
    }

    #[test]
    fn the_user_s_own_cidfile_is_found_and_the_container_s_words_are_not_taken_for_it() {
        for line in [
            "docker run --cidfile f busybox",
            "docker run --cidfile=f busybox",
            "docker run -d --rm -it -v /a:/b --name web --cidfile f busybox",
            "docker run -itv /a:/b -e A=b --network=none --cidfile f busybox --cidfile g",
            "docker run -h web --cidfile f busybox",
            "docker run --cidfile e --cidfile f -- busybox",
        ] {
            assert_eq!(run(line).and_then(|(_, file, _)| file).as_deref(), Some("f"), "{line}");
        }
        for line in [
            "docker run busybox --cidfile f",
            "docker run -it busybox --cidfile f",
            "docker run -e --cidfile busybox f",
            "docker run --init -- busybox --cidfile f",
        ] {
            assert_eq!(run(line).expect("it is a run").1, None, "{line}");
        }
    }

    #[test]
    fn what_only_contains_docker_is_a_command_and_other_clients_are_told() {
        for line in
            ["sh -c docker-run", "./docker.sh run busybox", "dockerd --debug", "env docker run busybox"]
        {
            assert_eq!(client(line), None, "{line}");
        }
        let others =
            ["docker ps", "docker compose run web", "docker create busybox", "podman run busybox", "docker"];
        for line in others {
            assert!(matches!(client(line), Some(Client::Other(_))), "{line}");
        }
    }

    #[test]
    fn a_file_of_khard_s_own_is_put_in_front_and_taken_away() {
        let argv = ["docker", "run", "--rm", "busybox"].map(OsString::from);
        let run =
            DockerRun::of(&argv, None, false).expect("a folder can be made").expect("it is a docker run");
        assert_eq!(run.argv[2], "--cidfile");
        assert_eq!(run.argv[4..], argv[2..]);
        assert_eq!(run.container(), None);
        fs::write(&run.argv[3], "no id").expect("the folder is there");
        assert_eq!(run.container(), None);
        fs::write(&run.argv[3], "0a".repeat(32)).expect("the folder is there");
        assert_eq!(run.container(), Some(ContainerId("0a".repeat(32))));
        let dir = run.own_dir.clone().expect("its own");
        drop(run);
        assert!(!dir.exists());
    }
}
