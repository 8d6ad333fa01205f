//! `khard export`, looked at by those who take what it writes: kubectl, kustomize, another reader of YAML, and a shell.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use khard_tests::khard::{self, Done};
use serde_json::{Value, json};

/// A recording of the container `nginx` of the pod `web-7d4b9c-x2x4z`.
const RECORDING: &str = include_str!("../../khard-profile/tests/profile/fixtures/recording-v2.json");

/// Three recorded containers, each with its profiles, in a folder of folders.
struct Recorded {
    dir: tempfile::TempDir,
}

impl Recorded {
    fn new(containers: &[&str]) -> Self {
        let recorded = Self { dir: tempfile::tempdir().unwrap() };
        for (nth, container) in containers.iter().enumerate() {
            // A younger container has a greater cgroup id.
            let recording = RECORDING.replace("ab.400", &format!("ab.{}00", 50 + nth));
            let mut recording: Value = serde_json::from_str(&recording).unwrap();
            recording["subject"]["container"] = json!(container);
            recorded.add(container, &recording);
        }
        recorded
    }

    fn add(&self, folder: &str, recording: &Value) {
        let dir = self.web().join(folder);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("recording.json"), recording.to_string()).unwrap();
        khard::start(khard::command(["generate"]).arg(&dir)).end().expect(0);
    }

    fn web(&self) -> PathBuf {
        self.dir.path().join("web")
    }

    /// The output folder.
    fn out(&self) -> PathBuf {
        self.dir.path().join("out $(touch it) 'and' \"it\"; it")
    }

    fn export(&self, args: &[&str]) -> Done {
        let mut command = khard::command(["export"]);
        khard::start(command.arg(self.web()).arg("-o").arg(self.out()).args(args)).end()
    }
}

#[test]
fn what_an_earlier_export_has_put_there_for_the_nodes_goes() {
    let recorded = Recorded::new(&["nginx", "log"]);
    recorded.export(&["--to", "kubernetes"]).expect(0);
    let files = |kind: &str| khard::files_below(&recorded.out().join("nodes").join(kind)).len();
    assert_eq!((files("seccomp"), files("apparmor")), (2, 2));
    recorded.export(&["--to", "docker"]).expect(0);
    assert_eq!((files("seccomp"), files("apparmor")), (2, 2), "these are another export's");
    fs::remove_dir_all(recorded.web().join("log")).unwrap();
    recorded.export(&["--to", "kubernetes", "--only", "seccomp"]).expect(0);
    assert_eq!((files("seccomp"), files("apparmor")), (1, 0));
}

/// What a program says, given its input.
fn said(command: &mut Command) -> String {
    let output =
        command.stderr(Stdio::piped()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// As `cargo xtask setup` installs it.
fn kubectl() -> Command {
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = cargo_home.map(|home| home.join("bin")).into_iter().chain(env::split_paths(&path));
    let mut dirs = dirs.map(|dir| dir.join("kubectl"));
    let kubectl = dirs.find(|file| file.is_file()).expect("kubectl: run `cargo xtask setup --for test`");
    let mut command = Command::new(kubectl);
    // No cluster of anybody's.
    command.env("KUBECONFIG", "/dev/null");
    command
}

/// The documents of a file, as a reader of YAML has them that is not khard's.
fn yaml(text: &str) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("yaml");
    fs::write(&file, text).unwrap();
    let script = "import json,sys,yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1], 'rb')))))";
    serde_json::from_str(&said(Command::new("/usr/bin/python3").args(["-c", script]).arg(file))).unwrap()
}

/// A workload as people have them. `proxy` was not recorded.
fn manifest(kind: &str) -> Value {
    let pod = json!({
        "metadata": {"labels": {"app": "web"}, "annotations": {"example.org/owner": "shop"}},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "initContainers": [
                {"name": "wait", "image": "busybox:1.36", "command": ["sh", "-c", "sleep 1"]},
                {"name": "setup", "image": "busybox:1.36", "securityContext": {"runAsUser": 0, "runAsNonRoot": false}},
            ],
            "containers": [
                {"name": "proxy", "image": "envoy:1.30", "ports": [{"containerPort": 8080}]},
                {
                    "name": "nginx", "image": "nginx:1.27",
                    "env": [{"name": "A", "value": "b"}],
                    "volumeMounts": [{"name": "cache", "mountPath": "/var/cache/nginx"}],
                    "securityContext": {"capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "Unconfined"}},
                },
                {"name": "log", "image": "busybox:1.36"},
            ],
            "volumes": [{"name": "cache", "emptyDir": {}}],
        },
    });
    let selector = json!({"matchLabels": {"app": "web"}});
    let (api_version, spec) = match kind {
        "Pod" => {
            let mut pod = pod;
            pod["apiVersion"] = json!("v1");
            pod["kind"] = json!("Pod");
            pod["metadata"]["name"] = json!("web");
            return pod;
        }
        "CronJob" => (
            "batch/v1",
            json!({"schedule": "* * * * *", "jobTemplate": {"spec": {"backoffLimit": 3, "template": pod}}}),
        ),
        "Job" => ("batch/v1", json!({"backoffLimit": 3, "template": pod})),
        "StatefulSet" => {
            ("apps/v1", json!({"serviceName": "web", "replicas": 2, "selector": selector, "template": pod}))
        }
        "DaemonSet" => ("apps/v1", json!({"selector": selector, "template": pod})),
        _ => ("apps/v1", json!({"replicas": 2, "selector": selector, "template": pod})),
    };
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "web"}, "spec": spec})
}

/// The pod in a manifest.
fn pod(manifest: &mut Value) -> &mut Value {
    match manifest["kind"].as_str() {
        Some("Pod") => manifest,
        Some("CronJob") => &mut manifest["spec"]["jobTemplate"]["spec"]["template"],
        _ => &mut manifest["spec"]["template"],
    }
}

fn named<'a>(list: &'a mut Value, name: &str) -> &'a mut Value {
    list.as_array_mut().unwrap().iter_mut().find(|item| item["name"] == name).unwrap()
}

/// The names that profiles have in the output folder, by container.
fn profiles(out: &Path, kind: &str, container: &str) -> String {
    let mut names =
        fs::read_dir(out.join("nodes").join(kind)).unwrap().map(|entry| entry.unwrap().file_name());
    let name = names.find(|name| name.to_str().unwrap().starts_with(&format!("khard-shop-web-{container}-")));
    name.unwrap().into_string().unwrap()
}

/// The manifest with what the exported patch is to change, by fields or, for AppArmor, by annotations.
fn expected(mut manifest: Value, out: &Path, by_field: bool) -> Value {
    let pod = pod(&mut manifest);
    for (list, container) in [("initContainers", "setup"), ("containers", "nginx"), ("containers", "log")] {
        let apparmor = profiles(out, "apparmor", container);
        let context = &mut named(&mut pod["spec"][list], container)["securityContext"];
        let localhost = |name: &str| json!({"type": "Localhost", "localhostProfile": name});
        context["seccompProfile"] = localhost(&profiles(out, "seccomp", container));
        if by_field {
            context["appArmorProfile"] = localhost(&apparmor);
        } else {
            let key = format!("container.apparmor.security.beta.kubernetes.io/{container}");
            pod["metadata"]["annotations"][key] = json!(format!("localhost/{apparmor}"));
        }
    }
    manifest
}

fn patched(dir: &Path, manifest: &Value, patch: &[&str]) -> Value {
    let file = dir.join("manifest.json");
    fs::write(&file, manifest.to_string()).unwrap();
    let mut command = kubectl();
    command.args(["patch", "--local", "--dry-run=client", "-o", "json", "-f"]).arg(file).args(patch);
    serde_json::from_str(&said(&mut command)).unwrap()
}

#[test]
fn a_patch_changes_the_recorded_containers_of_every_kind_and_nothing_else() {
    let recorded = Recorded::new(&["setup", "nginx", "log"]);
    let out = recorded.out();
    for kind in ["Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "CronJob", "Job", "Pod"] {
        let manifest = manifest(kind);
        let workload = format!("{}/web", kind.to_lowercase());
        for (version, by_field) in [("1.33", true), ("1.29", false)] {
            let args =
                ["--to", "kubernetes", "--workload", &workload, "--init", "setup", "--kube-version", version];
            recorded.export(&args).expect(0);
            // kubectl writes what is not said too, and that it does for both.
            let expected =
                patched(recorded.dir.path(), &expected(manifest.clone(), &out, by_field), &["-p", "{}"]);
            for file in ["patch.yaml", "patch.json"] {
                let file = out.join(file);
                let patched =
                    patched(recorded.dir.path(), &manifest, &["--patch-file", file.to_str().unwrap()]);
                assert_eq!(patched, expected, "{workload} {version} {}", file.display());
            }
        }
    }
}

#[test]
fn one_kind_of_profiles_is_exported_without_a_word_of_the_other() {
    let recorded = Recorded::new(&["setup", "nginx"]);
    for (only, key, absent) in
        [("seccomp", "seccompProfile", "apparmor"), ("apparmor", "appArmorProfile", "seccomp")]
    {
        recorded.export(&["--to", "kubernetes", "--only", only]).expect(0);
        let patch = fs::read_to_string(recorded.out().join("patch.json")).unwrap();
        assert!(patch.contains(key) && !patch.to_lowercase().contains(absent), "{patch}");
        let nodes: Vec<_> = fs::read_dir(recorded.out().join("nodes")).unwrap().flatten().collect();
        assert_eq!(nodes.iter().map(fs::DirEntry::file_name).collect::<Vec<_>>(), [only]);
        fs::remove_dir_all(recorded.out()).unwrap();
    }
}

#[test]
fn a_kustomization_that_names_the_folder_has_the_profiles() {
    let recorded = Recorded::new(&["setup", "nginx", "log"]);
    let dir = recorded.dir.path();
    let mut other = manifest("Deployment");
    other["metadata"]["name"] = json!("web-2");
    let rows = [
        ("Deployment", true),
        ("Deployment", false),
        ("CronJob", true),
        ("CronJob", false),
        ("Pod", true),
        ("Pod", false),
    ];
    for (kind, by_field) in rows {
        let (workload, version) =
            (format!("{}/web", kind.to_lowercase()), if by_field { "1.30" } else { "1.29" });
        let args =
            ["--to", "kubernetes", "--workload", &workload, "--init", "setup", "--kube-version", version];
        recorded.export(&args).expect(0);
        let folder = recorded.out().file_name().unwrap().to_str().unwrap().to_owned();
        let kustomization =
            json!({"namespace": "shop", "resources": ["app.json", "other.json"], "components": [folder]});
        fs::write(dir.join("kustomization.yaml"), kustomization.to_string()).unwrap();
        fs::write(dir.join("app.json"), manifest(kind).to_string()).unwrap();
        fs::write(dir.join("other.json"), other.to_string()).unwrap();
        let mut built = yaml(&said(kubectl().arg("kustomize").arg(dir)));
        built.sort_by_key(|object| object["metadata"]["name"].to_string().len());

        let mut expected = vec![expected(manifest(kind), &recorded.out(), by_field), other.clone()];
        for object in &mut expected {
            object["metadata"]["namespace"] = json!("shop");
        }
        assert_eq!(built, expected, "{kind} {version}");
    }
}

#[test]
fn every_file_says_to_another_reader_what_is_meant() {
    let recorded = Recorded::new(&["nginx", "log"]);
    let out = recorded.out();
    let read = |file: &str| fs::read_to_string(out.join(file)).unwrap();
    recorded.export(&["--to", "operator"]).expect(0);
    assert_eq!(yaml(&read("patch.yaml")), [serde_json::from_str::<Value>(&read("patch.json")).unwrap()]);
    for resource in yaml(&read("seccompprofiles.yaml")) {
        let name = resource["metadata"]["name"].as_str().unwrap();
        assert!(read("patch.json").contains(&format!("\"operator/{name}.json\"")), "{name}");
        let container = if name.contains("nginx") { "nginx" } else { "log" };
        let profile = fs::read(recorded.web().join(container).join("seccomp.json")).unwrap();
        let profile: Value = serde_json::from_slice(&profile).unwrap();
        assert_eq!(resource["spec"]["syscalls"][0], profile["syscalls"][0]);
        assert_eq!(resource["spec"]["architectures"], profile["architectures"]);
    }
    for resource in yaml(&read("apparmorprofiles.yaml")) {
        let name = resource["metadata"]["name"].as_str().unwrap();
        assert!(read("patch.json").contains(&format!("\"localhostProfile\": \"{name}\"")), "{name}");
        let text = read(&format!("nodes/apparmor/{name}"));
        let lists = &resource["spec"]["abstract"]["filesystem"];
        let listed = lists.as_object().unwrap().values().flat_map(|paths| paths.as_array().unwrap());
        for path in listed.map(|path| path.as_str().unwrap()) {
            assert!(text.contains(&format!("\"{path}\"")), "{path} is not in\n{text}");
        }
    }
    recorded.export(&["--to", "docker"]).expect(0);
    let compose = &yaml(&read("compose.yaml"))[0];
    for service in ["nginx", "log"] {
        let options = compose["services"][service]["security_opt"].as_array().unwrap();
        let seccomp = options[0].as_str().unwrap().strip_prefix("seccomp:./").unwrap();
        assert_eq!(
            read(seccomp),
            fs::read_to_string(recorded.web().join(service).join("seccomp.json")).unwrap()
        );
        let apparmor = options[1].as_str().unwrap().strip_prefix("apparmor:").unwrap();
        assert!(read(apparmor).contains(&format!("\nprofile {apparmor} ")));
    }
}

#[test]
fn the_lines_for_docker_and_podman_are_what_is_meant_for_a_shell_too() {
    let recorded = Recorded::new(&[]);
    let image = "$(touch it);touch 'it' \"it\" `touch it` # é";
    let mut recording: Value = serde_json::from_str(RECORDING).unwrap();
    for run in recording["runs"].as_array_mut().unwrap() {
        if !run["container"].is_null() {
            run["container"]["image"] = json!(image);
        }
    }
    recorded.add("nginx", &recording);
    let done = recorded.export(&["--to", "docker"]).expect(0);
    let out = recorded.out();
    let names = |suffix: &str| {
        let mut names =
            fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .find(|name| {
                let is_json = Path::new(name).extension().is_some_and(|extension| extension == "json");
                name.starts_with("khard-") && is_json == (suffix == ".json")
            })
            .unwrap()
    };
    let expected = [
        "run",
        "--security-opt",
        &format!("seccomp={}", out.join(names(".json")).display()),
        "--security-opt",
        &format!("apparmor={}", names("")),
        image,
    ]
    .join("\n");
    for engine in ["docker", "podman"] {
        let line = done.stdout.lines().find_map(|line| line.split_once(&format!("{engine} run "))).unwrap().1;
        let script = format!("{engine}() {{ printf '%s\\n' \"$@\"; }}\n{engine} run {line}");
        assert_eq!(
            said(Command::new("sh").args(["-c", &script]).current_dir(recorded.dir.path())).trim_end(),
            expected
        );
    }
    assert!(!recorded.dir.path().join("it").exists());
}

#[test]
fn what_cannot_be_exported_is_an_error_with_a_way_out() {
    let recorded = Recorded::new(&["nginx"]);
    let refused = |args: &[&str], why: &str| {
        let done = recorded.export(args).expect(2);
        assert!(done.stderr.contains(why), "{args:?}: {}", done.stderr);
        assert!(!recorded.out().exists(), "{args:?} wrote something");
    };
    refused(&["--to", "kubernetes", "--kube-version", "1.18"], "it came with 1.19");
    refused(&["--to", "kubernetes", "--workload", "rollout/web"], "expected KIND/NAME");
    refused(&["--to", "kubernetes", "--init", "setup"], "no recording of the init container \"setup\"");
    refused(&["--to", "docker", "--init", "nginx"], "leave them out");
    fs::write(recorded.web().join("nginx/seccomp.json"), "{}").unwrap();
    refused(&["--to", "kubernetes"], "khard generate");
    fs::remove_file(recorded.web().join("nginx/recording.json")).unwrap();
    refused(&["--to", "kubernetes"], "there is no recording in");
}

#[test]
fn what_is_said_is_there_for_programs_too_and_the_same_twice() {
    let recorded = Recorded::new(&["nginx"]);
    let json = recorded.export(&["--to", "kubernetes", "--json"]).expect(0).stdout;
    let said: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(said["title"], "deployment/web in the namespace shop");
    for file in said["files"].as_array().unwrap() {
        let parts = file["path"].as_array().unwrap().iter().map(|part| part.as_str().unwrap());
        assert!(parts.fold(recorded.out(), |path, part| path.join(part)).is_file(), "{file}");
    }
    assert_eq!(recorded.export(&["--to", "kubernetes", "--json"]).expect(0).stdout, json);
}
