//! A socket between khard and a runtime, with which the runtime can seem to hang, to die and to come back without any
//! pod's noticing. Owns the bytes' way; knows nothing of what they mean.

#![expect(clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::{
    fs, io,
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use tempfile::TempDir;

/// A runtime's socket in another place.
pub struct Proxy {
    dir: TempDir,
    target: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    goes_on: Condvar,
}

#[derive(Default)]
struct State {
    /// Bytes stay where they are.
    is_held: bool,
    /// Both ends of each connection.
    connections: Vec<UnixStream>,
    /// Those made before have ended with the listener.
    is_dead: bool,
}

impl Proxy {
    /// Listens, and passes on to the socket `target`.
    pub fn to(target: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let proxy = Self { dir, target: target.to_owned(), shared: Arc::default() };
        proxy.listen();
        proxy
    }

    /// As an option of khard.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.path().display())
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("runtime.sock")
    }

    fn listen(&self) {
        let listener = UnixListener::bind(self.path()).expect("a socket in a folder of our own");
        let (target, shared) = (self.target.clone(), Arc::clone(&self.shared));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(runtime) = UnixStream::connect(&target) else { continue };
                let mut state = shared.state();
                // Dead: this connection only wakes us.
                if state.is_dead {
                    return;
                }
                for (from, to) in [(&client, &runtime), (&runtime, &client)] {
                    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { continue };
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || {
                        let _ = shared.pass(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                state.connections.extend([client, runtime]);
            }
        });
    }

    /// As if the runtime hung: it accepts, and nothing comes back. `false` lets all go on that was held.
    pub fn hold(&self, is_held: bool) {
        self.shared.state().is_held = is_held;
        self.shared.goes_on.notify_all();
    }

    /// As if the runtime died: connections break, and nobody listens.
    pub fn die(&self) {
        let mut state = self.shared.state();
        state.is_dead = true;
        for connection in state.connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
        drop(state);
        let _ = UnixStream::connect(self.path());
        let _ = fs::remove_file(self.path());
    }

    /// As if it was started again.
    pub fn come_back(&self) {
        self.shared.state().is_dead = false;
        self.listen();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies until one end closes.
    fn pass(&self, from: &mut UnixStream, to: &mut UnixStream) -> io::Result<()> {
        use std::io::{Read as _, Write as _};
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let n_read = from.read(&mut buffer)?;
            if n_read == 0 {
                return Ok(());
            }
            let mut state = self.state();
            while state.is_held {
                state = self.goes_on.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            drop(state);
            to.write_all(&buffer[..n_read])?;
        }
    }
}
