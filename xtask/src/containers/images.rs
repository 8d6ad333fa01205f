//! Images of the demo and the tests: owns their contents, made by hand from Debian's packages, and their archive in the
//! OCI image layout (<https://github.com/opencontainers/image-spec>).

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    command::CommandExt as _,
    debian,
    paths::Paths,
    setup::{self, Purpose},
};

/// Raised when an image's contents change, so that old archives are made again.
const RECIPE: u32 = 2;
const PACKAGES: [&str; 4] = ["nginx-light", "redis-server", "redis-tools", "busybox-static"];

/// The first process of a pod: it waits for ever. The runtime ends it with SIGKILL.
const PAUSE: &str = r#"
static long call(long number) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number) : "rcx", "r11", "memory");
    return result;
}
void _start(void) { for (;;) call(34); } /* pause(2) on x86-64 */
"#;
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    www-data:x:33:33:www-data:/var/www:/bin/false\n\
    redis:x:101:101:redis:/var/lib/redis:/bin/false\n\
    nobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\nadm:x:4:\nwww-data:x:33:\nredis:x:101:\nnogroup:x:65534:\n";

/// An archive with `docker.io/khard/{pause,busybox,nginx,redis}:1`, for `ctr image import`. Made when it is not there.
pub(crate) fn archive(paths: &Paths) -> Result<PathBuf> {
    setup::ensure(paths, &[Purpose::Containers])?;
    let dir = paths.state_dir("images")?;
    let archive = dir.join(format!("images-{RECIPE}-{}.tar", debian::suite()));
    let _lock = paths.lock("images/make")?;
    if archive.exists() {
        return Ok(archive);
    }
    eprintln!("xtask: make the images pause, busybox, nginx and redis from Debian's packages");
    let (tree, layout) = (dir.join("tree"), dir.join("layout"));
    for old in [&tree, &layout] {
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
    }
    debian::bootstrap(&debian::suite(), &tree, "extract", &PACKAGES, &[])?;
    fs::create_dir_all(layout.join("blobs/sha256"))?;
    let mut manifests = Vec::new();
    for image in IMAGES {
        manifests.push(image.write(&tree, &layout)?);
    }
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    fs::write(layout.join("index.json"), json!({"schemaVersion": 2, "manifests": manifests}).to_string())?;
    let new = archive.with_extension("new");
    tar(&layout, &new)?;
    fs::rename(&new, &archive)?;
    fs::remove_dir_all(&tree)?;
    fs::remove_dir_all(&layout)?;
    Ok(archive)
}

struct Image {
    name: &'static str,
    fill: fn(&Root) -> Result<()>,
    config: fn() -> Value,
}

const IMAGES: [Image; 4] = [
    Image { name: "pause", fill: pause, config: || json!({"Entrypoint": ["/pause"]}) },
    Image { name: "busybox", fill: Root::base, config: || json!({"Cmd": ["sh"]}) },
    Image {
        name: "nginx",
        fill: nginx,
        config: || json!({"Entrypoint": ["nginx", "-g", "daemon off;"], "ExposedPorts": {"80/tcp": {}}}),
    },
    Image {
        name: "redis",
        fill: redis,
        config: || {
            json!({
                "Entrypoint": ["redis-server", "--protected-mode", "no", "--dir", "/var/lib/redis"],
                "ExposedPorts": {"6379/tcp": {}},
                "User": "redis",
            })
        },
    },
];

impl Image {
    /// Writes its blobs; returns its descriptor for the index.
    fn write(&self, tree: &Path, layout: &Path) -> Result<Value> {
        let dir = layout.join(self.name);
        fs::create_dir(&dir)?;
        let root = Root { tree: tree.to_owned(), dir };
        (self.fill)(&root).with_context(|| format!("image {}", self.name))?;
        let layer_file = layout.join("layer");
        tar(&root.dir, &layer_file)?;
        fs::remove_dir_all(&root.dir)?;
        let layer = blob(layout, &layer_file, "layer.v1.tar")?;

        let mut config = (self.config)();
        config["Env"] = json!(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        });
        let config = json_blob(layout, &config, "config.v1+json")?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [layer],
        });
        let mut descriptor = json_blob(layout, &manifest, "manifest.v1+json")?;
        descriptor["annotations"] = json!({
            "io.containerd.image.name": format!("docker.io/khard/{}:1", self.name),
            "org.opencontainers.image.ref.name": "1",
        });
        Ok(descriptor)
    }
}

fn json_blob(layout: &Path, value: &Value, kind: &str) -> Result<Value> {
    let file = layout.join("value");
    fs::write(&file, value.to_string())?;
    blob(layout, &file, kind)
}

/// Moves a file to its place among the blobs; returns its descriptor.
fn blob(layout: &Path, file: &Path, kind: &str) -> Result<Value> {
    let sum = Command::new("sha256sum").arg(file).read_text()?;
    let sum = sum.split_whitespace().next().context("sha256sum said nothing")?;
    let size = fs::metadata(file)?.len();
    fs::rename(file, layout.join("blobs/sha256").join(sum))?;
    Ok(json!({
        "mediaType": format!("application/vnd.oci.image.{kind}"),
        "digest": format!("sha256:{sum}"),
        "size": size,
    }))
}

/// The same folder gives the same archive, but for owners and modes: those are the folder's.
fn tar(dir: &Path, out: &Path) -> Result<()> {
    Command::new("tar")
        .args(["--format=gnu", "--sort=name", "--mtime=@0", "--numeric-owner", "-cf"])
        .arg(out)
        .arg("-C")
        .arg(dir)
        .arg(".")
        .read()?;
    Ok(())
}

/// An image's root, filled from unpacked packages.
struct Root {
    tree: PathBuf,
    dir: PathBuf,
}

impl Root {
    /// busybox with a link for each of its programs, users, and the folders that programs expect.
    fn base(&self) -> Result<()> {
        for dir in ["dev", "proc", "sys", "etc", "run", "root", "tmp", "bin", "var/log"] {
            fs::create_dir_all(self.dir.join(dir))?;
        }
        fs::set_permissions(self.dir.join("tmp"), PermissionsExt::from_mode(0o1777))?;
        symlink("/run", self.dir.join("var/run"))?;
        fs::write(self.dir.join("etc/passwd"), PASSWD)?;
        fs::write(self.dir.join("etc/group"), GROUP)?;
        let busybox = ["bin/busybox", "usr/bin/busybox"]
            .into_iter()
            .find(|path| self.tree.join(path).exists())
            .context("the package busybox-static has no busybox")?;
        fs::copy(self.tree.join(busybox), self.dir.join("bin/busybox"))?;
        let list = Command::new(self.tree.join(busybox)).arg("--list").read_text()?;
        for applet in list.lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", self.dir.join("bin").join(applet))?;
        }
        Ok(())
    }

    /// Copies files and folders, with all in them, to the same place.
    fn copy(&self, paths: &BTreeSet<String>) -> Result<()> {
        let relative = paths.iter().map(|path| format!(".{path}"));
        Command::new("cp")
            .args(["-a", "--parents"])
            .args(relative)
            .arg(&self.dir)
            .current_dir(&self.tree)
            .read()?;
        Ok(())
    }

    /// Copies programs with their shared libraries.
    fn programs(&self, programs: &[&str]) -> Result<()> {
        let mut paths = BTreeSet::new();
        for program in programs {
            self.with_links(program, &mut paths)?;
            // The dynamic loader itself says which libraries it would map.
            let list = Command::new("chroot")
                .arg(&self.tree)
                .args(["/lib64/ld-linux-x86-64.so.2", "--list", program])
                .read_text()?;
            for word in list.split_whitespace().filter(|word| word.starts_with('/')) {
                self.with_links(word, &mut paths)?;
            }
        }
        self.copy(&paths)
    }

    /// A file and the links that lead to it.
    fn with_links(&self, path: &str, paths: &mut BTreeSet<String>) -> Result<()> {
        let mut path = path.to_owned();
        while paths.insert(path.clone()) {
            let Ok(target) = fs::read_link(self.tree.join(path.trim_start_matches('/'))) else { break };
            let parent = Path::new(&path).parent().context("a file without a folder")?;
            let target = parent.join(target);
            target.to_str().context("a file's name is no text")?.clone_into(&mut path);
        }
        Ok(())
    }

    /// A folder that a service writes to.
    fn owned_dir(&self, path: &str, uid: u32, gid: u32) -> Result<()> {
        let dir = self.dir.join(path);
        fs::create_dir_all(&dir)?;
        chown(&dir, Some(uid), Some(gid))?;
        Ok(())
    }
}

fn pause(root: &Root) -> Result<()> {
    Command::new("gcc")
        .args(["-Os", "-static", "-nostdlib", "-s", "-x", "c", "-", "-o"])
        .arg(root.dir.join("pause"))
        .read_with_input(PAUSE.as_bytes())?;
    Ok(())
}

fn nginx(root: &Root) -> Result<()> {
    root.base()?;
    root.programs(&["/usr/sbin/nginx"])?;
    root.copy(&["/etc/nginx", "/usr/share/nginx"].map(str::to_owned).into())?;
    // What the package's scripts would have done.
    symlink("/etc/nginx/sites-available/default", root.dir.join("etc/nginx/sites-enabled/default"))?;
    fs::create_dir_all(root.dir.join("var/www/html"))?;
    fs::copy(root.dir.join("usr/share/nginx/html/index.html"), root.dir.join("var/www/html/index.html"))?;
    root.owned_dir("var/log/nginx", 33, 4)?;
    root.owned_dir("var/lib/nginx", 33, 33)
}

fn redis(root: &Root) -> Result<()> {
    root.base()?;
    root.programs(&["/usr/bin/redis-server", "/usr/bin/redis-cli", "/usr/bin/redis-benchmark"])?;
    root.owned_dir("var/lib/redis", 101, 101)
}
