//! Changes that are made together or not at all. Owns the order of undoing; knows files and loaded profiles, and not why they
//! change. Nothing that undoes a file needs room on the disk.

use super::{NodeError, apparmor, ledger::Ledger, places::Places, shown};
use crate::{causes::with_causes, output::files::OutDir};

/// What was done so far.
pub(super) struct Changes<'a> {
    places: &'a Places,
    undo: Vec<Undo>,
}

enum Undo {
    /// A file that was kept before it was written or removed.
    File { dir: OutDir, name: String },
    /// A profile that was loaded in the place of nothing.
    Load { name: String },
    /// A profile that was in the kernel, as it was loaded, if the kernel keeps that.
    Restore { name: String, compiled: Option<Vec<u8>> },
}

impl<'a> Changes<'a> {
    /// Makes changes. When one fails, those before it are undone, the last one first.
    ///
    /// # Errors
    /// `Undone`, with what failed and what could not be undone.
    pub(super) fn make<T>(
        places: &'a Places,
        steps: impl FnOnce(&mut Self) -> Result<T, NodeError>,
    ) -> Result<T, NodeError> {
        let _uninterrupted = Uninterrupted::begin();
        let mut changes = Self { places, undo: Vec::new() };
        match steps(&mut changes) {
            Ok(done) => {
                for undo in &changes.undo {
                    if let Undo::File { dir, name } = undo {
                        dir.forget(name);
                    }
                }
                Ok(done)
            }
            Err(source) => {
                let left = changes.undo_all();
                Err(NodeError::Undone { left, source: Box::new(source) })
            }
        }
    }

    /// Writes a file.
    pub(super) fn write(&mut self, dir: &OutDir, name: &str, contents: &[u8]) -> Result<(), NodeError> {
        self.keep(dir, name)?;
        dir.write(name, contents)?;
        Ok(())
    }

    /// Removes a file.
    pub(super) fn delete(&mut self, dir: &OutDir, name: &str) -> Result<(), NodeError> {
        self.keep(dir, name)?;
        dir.delete(name)?;
        Ok(())
    }

    /// Writes the ledger, or removes it if nothing is left in it.
    pub(super) fn write_ledger(&mut self, ledger: &Ledger) -> Result<(), NodeError> {
        let dir = OutDir::open_system(&self.places.state)?;
        let name = super::ledger::LEDGER_FILE;
        if !ledger.is_empty() {
            return self.write(&dir, name, &ledger.to_json());
        }
        if self.places.state.join(name).exists() { self.delete(&dir, name) } else { Ok(()) }
    }

    /// Loads a profile and makes sure that the kernel has it.
    pub(super) fn load(&mut self, name: &str, compiled: &[u8], mode: &'static str) -> Result<(), NodeError> {
        let (Some(kernel), Some(parser)) = (&self.places.kernel, &self.places.parser) else { return Ok(()) };
        let read = || apparmor::Loaded::read(kernel).map_err(NodeError::NoAppArmor);
        let undo = match read()?.mode_of(name) {
            None => Undo::Load { name: name.to_owned() },
            Some(_) => self.restore(name),
        };
        // When it fails, the kernel has what it had.
        parser.load(compiled, name)?;
        self.undo.push(undo);
        match read()?.mode_of(name) {
            Some(found) if found == mode => Ok(()),
            found => Err(NodeError::NotAsLoaded {
                name: shown(name),
                expected: mode,
                found: found.map_or("not at all".to_owned(), |found| format!("in {found} mode")),
            }),
        }
    }

    /// Takes a profile out of the kernel.
    pub(super) fn unload(&mut self, name: &str) -> Result<(), NodeError> {
        let Some(parser) = &self.places.parser else { return Err(NodeError::NoParser) };
        let undo = self.restore(name);
        parser.unload(name)?;
        self.undo.push(undo);
        Ok(())
    }

    fn restore(&self, name: &str) -> Undo {
        let details = self.places.kernel.as_ref().and_then(|kernel| apparmor::Details::of(kernel, name));
        Undo::Restore { name: name.to_owned(), compiled: details.and_then(|details| details.compiled()) }
    }

    /// What is there already is kept once.
    fn keep(&mut self, dir: &OutDir, name: &str) -> Result<(), NodeError> {
        let is_kept = self.undo.iter().any(|undo| match undo {
            Undo::File { dir: kept, name: kept_name } => kept.path() == dir.path() && kept_name == name,
            _ => false,
        });
        if !is_kept {
            dir.keep(name)?;
            self.undo.push(Undo::File { dir: OutDir::open_system(dir.path())?, name: name.to_owned() });
        }
        Ok(())
    }

    /// The last one first. Returns what did not work, in words.
    fn undo_all(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        while let Some(undo) = self.undo.pop() {
            if let Err(error) = self.undo_one(&undo) {
                left.push(error);
            }
        }
        left
    }

    fn undo_one(&self, undo: &Undo) -> Result<(), String> {
        let parser = self.places.parser.as_ref();
        let is_loaded = |name: &str| {
            let loaded = self.places.kernel.as_ref().map(apparmor::Loaded::read);
            loaded.is_none_or(|loaded| loaded.is_ok_and(|loaded| loaded.mode_of(name).is_some()))
        };
        match (undo, parser) {
            (Undo::File { dir, name }, _) => dir.put_back(name).map_err(|error| with_causes(&error)),
            (Undo::Load { name }, Some(parser)) if is_loaded(name) => {
                parser.unload(name).map_err(|error| with_causes(&error))
            }
            (Undo::Restore { name, compiled: Some(compiled) }, Some(parser)) => {
                parser.load(compiled, name).map_err(|error| with_causes(&error))
            }
            (Undo::Restore { name, .. }, _) => {
                Err(format!("the kernel does not keep what the profile {} was", shown(name)))
            }
            (Undo::Load { .. }, _) => Ok(()),
        }
    }
}

/// Signals that would end khard in the middle wait until it is done.
struct Uninterrupted {
    before: libc::sigset_t,
}

impl Uninterrupted {
    fn begin() -> Self {
        // SAFETY: the sets are our own; the calls fill and read them (pthread_sigmask(3)).
        unsafe {
            let mut waiting: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut waiting);
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
                libc::sigaddset(&raw mut waiting, signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const waiting, &raw mut before);
            Self { before }
        }
    }
}

impl Drop for Uninterrupted {
    fn drop(&mut self) {
        // SAFETY: the set was filled by the kernel.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}
