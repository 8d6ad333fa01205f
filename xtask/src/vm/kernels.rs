//! Kernels for guests: owns finding Debian's packages, and turning one into what QEMU boots (an unpacked kernel, its
//! modules on a disk, the modules that the first program needs). Installs nothing.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    command::CommandExt as _,
    debian::{self, Archive},
    paths::Paths,
};

/// What the first program needs to reach its disks, its ports and the shared folder.
const DRIVERS: [&str; 5] = ["virtio_pci", "virtio_blk", "virtio_console", "virtiofs", "ext4"];

/// A kernel, ready to boot.
pub(crate) struct Kernel {
    /// The folder that has it all.
    dir: PathBuf,
}

impl Kernel {
    /// The uncompressed kernel, which QEMU starts through its PVH entry.
    pub(crate) fn vmlinux(&self) -> PathBuf {
        self.dir.join("vmlinux")
    }

    /// An ext4 image of `/lib/modules`.
    pub(crate) fn modules_disk(&self) -> PathBuf {
        self.dir.join("modules.ext4")
    }

    /// The modules for the initramfs, in the order in which to load them.
    pub(crate) fn early_modules(&self) -> Result<Vec<PathBuf>> {
        let dir = self.dir.join("early");
        let order = fs::read_to_string(dir.join("order"))?;
        Ok(order.lines().map(|name| dir.join(name)).collect())
    }
}

/// Finds a kernel by what `--kernel` says: `6.1`, `6.12`, `newest`, or the path of a package or of its unpacked folder.
/// A kernel that was made once is used again; delete its folder to look for a newer one.
pub(crate) fn find(paths: &Paths, which: &str) -> Result<Kernel> {
    let name = match which {
        "6.1" | "6.12" | "newest" => which.to_owned(),
        path => {
            let path = fs::canonicalize(path).with_context(|| {
                format!("--kernel {path}: neither 6.1, 6.12, newest nor a file or folder")
            })?;
            path.display().to_string().replace('/', "_")
        }
    };
    let kernels = paths.state_dir("kernels")?;
    let dir = kernels.join(&name);
    let _lock = paths.lock(&format!("kernels/{name}"))?;
    let stale = newer(Path::new(which), &dir);
    if !dir.exists() || stale {
        let tree = kernels.join(format!("{name}.tree"));
        let new = kernels.join(format!("{name}.new"));
        for old in [&tree, &new, &dir] {
            if old.exists() {
                fs::remove_dir_all(old)?;
            }
        }
        fs::create_dir(&new)?;
        match which {
            "6.1" | "6.12" | "newest" => download(paths, which, &tree)?,
            path if Path::new(path).is_file() => debian::unpack_deb(Path::new(path), &tree)?,
            path => {
                Command::new("cp").args(["-a", "--reflink=auto", path]).arg(&tree).read()?;
            }
        }
        prepare(&tree, &new).with_context(|| format!("kernel {which}"))?;
        fs::remove_dir_all(&tree)?;
        fs::rename(&new, &dir)?;
    }
    Ok(Kernel { dir })
}

fn newer(source: &Path, made: &Path) -> bool {
    let time = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    matches!((time(source), time(made)), (Ok(source), Ok(made)) if source > made)
}

fn download(paths: &Paths, series: &str, tree: &Path) -> Result<()> {
    let archive = Archive::of_kernels(paths)?;
    for package in newest_first(archive.names("linux-image-")?, series) {
        if let Some(parts) = archive.parts(&package)? {
            return parts.iter().try_for_each(|part| archive.unpack(part, tree));
        }
    }
    bail!("Debian's archive has no whole kernel {series}")
}

/// The cloud kernels of a series among package names, newest first.
fn newest_first(mut names: Vec<String>, series: &str) -> Vec<String> {
    names.retain(|name| {
        let Some(version) = name.strip_prefix("linux-image-") else { return false };
        let Some(version) = version.strip_suffix("-unsigned").unwrap_or(version).strip_suffix("-cloud-amd64")
        else {
            return false;
        };
        match series {
            "newest" => version.ends_with("+deb13"),
            _ => version.strip_prefix(series).is_some_and(|rest| rest.starts_with('.')),
        }
    });
    names.sort_by(|a, b| debian::compare_versions(b, a));
    names
}

/// Turns an unpacked package into what [`Kernel`] has.
fn prepare(tree: &Path, out: &Path) -> Result<()> {
    let base = ["", "usr"]
        .iter()
        .map(|base| tree.join(base))
        .find(|base| base.join("lib/modules").is_dir())
        .context("it has no lib/modules")?;
    let modules = base.join("lib/modules");
    let version = fs::read_dir(&modules)?.next().context("lib/modules is empty")??.file_name();
    let version = version.to_str().context("the kernel's version is no text")?;
    // Debian's packages since 7.2 have the kernel beside its modules.
    let bz_image = [tree.join(format!("boot/vmlinuz-{version}")), modules.join(version).join("vmlinuz")]
        .into_iter()
        .find(|path| path.exists())
        .context("it has no vmlinuz")?;
    fs::write(out.join("vmlinux"), vmlinux(&fs::read(&bz_image)?)?)?;

    for unneeded in ["build", "source", "vmlinuz"] {
        let path = modules.join(version).join(unneeded);
        if path.symlink_metadata().is_ok() {
            fs::remove_file(path)?;
        }
    }
    Command::new("depmod").arg("-b").arg(&base).arg(version).read()?;
    early_modules(&base, version, &out.join("early"))?;

    let used = Command::new("du").arg("-sm").arg(&modules).read_text()?;
    let used_mib: u64 = used.split_whitespace().next().and_then(|mib| mib.parse().ok()).context("du")?;
    make_ext4(&modules, &out.join("modules.ext4"), used_mib * 5 / 4 + 32)
}

/// Makes an ext4 image of a folder, without mounting anything.
pub(crate) fn make_ext4(folder: &Path, image: &Path, size_mib: u64) -> Result<()> {
    Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d"])
        .args([folder, image])
        .arg(format!("{size_mib}M"))
        .read()?;
    Ok(())
}

fn early_modules(base: &Path, version: &str, out: &Path) -> Result<()> {
    fs::create_dir(out)?;
    let mut order: Vec<String> = Vec::new();
    for driver in DRIVERS {
        // A driver that is built in has nothing to insert.
        let depends = Command::new("modprobe")
            .arg("-d")
            .arg(base)
            .args(["-S", version, "--show-depends", driver])
            .read_text()?;
        for path in depends.lines().filter_map(|line| line.strip_prefix("insmod ")) {
            let path = Path::new(path.trim());
            let file = path.file_name().and_then(|name| name.to_str()).context("a module without a name")?;
            let name = file.strip_suffix(".xz").unwrap_or(file).to_owned();
            if order.contains(&name) {
                continue;
            }
            let mut data = fs::read(path)?;
            if file != name {
                data = Command::new("xz").arg("-dc").read_with_input(&data)?;
            }
            fs::write(out.join(&name), data)?;
            order.push(name);
        }
    }
    fs::write(out.join("order"), order.join("\n"))?;
    Ok(())
}

/// The letters `HdrS`, which every bzImage has at 0x202.
const HDRS: usize = 0x5372_6448;

/// Unpacks the kernel from a bzImage, so that an emulated CPU need not. The header's fields: the kernel's
/// Documentation/arch/x86/boot.rst (`setup_sects`, `payload_offset`, `payload_length`).
fn vmlinux(bz_image: &[u8]) -> Result<Vec<u8>> {
    let word = |at: usize| -> Result<usize> {
        let mut bytes = [0; 4];
        bz_image.get(at..).context("too short")?.read_exact(&mut bytes).context("too short")?;
        Ok(usize::try_from(u32::from_le_bytes(bytes))?)
    };
    if word(0x202)? != HDRS {
        bail!("no bzImage");
    }
    let setup_sectors = match bz_image.get(0x1f1) {
        Some(0) | None => 4,
        Some(sectors) => usize::from(*sectors),
    };
    let start = (setup_sectors + 1) * 512 + word(0x248)?;
    let payload = bz_image.get(start..start + word(0x24c)?).context("the payload is cut off")?;
    // The last four bytes are the unpacked length, which no tool expects.
    let packed = &payload[..payload.len() - 4];
    let tool = match packed {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "xz",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        [0x02, 0x21, 0x4c, 0x18, ..] => "lz4",
        _ => bail!("the kernel is packed in an unknown way"),
    };
    Command::new(tool).arg("-dc").read_with_input(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 8] = [
        "linux-image-6.1.0-9-cloud-amd64",
        "linux-image-6.1.0-56-cloud-amd64",
        "linux-image-6.1.0-56-amd64",
        "linux-image-6.12.9+deb12-cloud-amd64-unsigned",
        "linux-image-6.12.117+deb12-cloud-amd64-unsigned",
        "linux-image-6.18.15+deb13-cloud-amd64",
        "linux-image-7.3.4+deb13-cloud-amd64",
        "linux-image-cloud-amd64",
    ];

    fn first(series: &str) -> Option<String> {
        newest_first(NAMES.map(str::to_owned).to_vec(), series).into_iter().next()
    }

    #[test]
    fn a_series_is_its_newest_cloud_kernel() {
        assert_eq!(first("6.1").as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(first("6.12").as_deref(), Some("linux-image-6.12.117+deb12-cloud-amd64-unsigned"));
        assert_eq!(first("newest").as_deref(), Some("linux-image-7.3.4+deb13-cloud-amd64"));
        assert_eq!(first("5.10"), None);
    }

    #[test]
    fn what_is_no_bz_image_is_refused() {
        assert!(vmlinux(&[]).is_err());
        assert!(vmlinux(&[0; 4096]).is_err());
    }
}
