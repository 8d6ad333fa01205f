//! containerd's configuration and the pods' network: owns both texts, for this machine and for guests.

use std::path::Path;

/// Folders and limits that differ between this machine and a guest.
pub(crate) struct Config<'a> {
    /// Where the network's configuration is.
    pub cni_conf_dir: &'a Path,
    /// Where the network's programs are.
    pub cni_bin_dir: &'a Path,
    /// Negative `oom_score_adj` values are out of reach (no `CAP_SYS_RESOURCE`), so ask for none.
    pub restrict_oom_score_adj: bool,
}

/// containerd's configuration: CRI with runc and crun, without what pods here never use.
pub(crate) fn containerd(config: &Config) -> String {
    let Config { cni_conf_dir, cni_bin_dir, restrict_oom_score_adj } = config;
    format!(
        r#"version = 2
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.native", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/khard/pause:1"
  restrict_oom_score_adj = {restrict_oom_score_adj}
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{}"
    conf_dir = "{}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun.options]
      BinaryName = "/usr/bin/crun"
"#,
        cni_bin_dir.display(),
        cni_conf_dir.display()
    )
}

/// The pods' network: a bridge, addresses from 10.88.0.0/16, no way out. `ipam_dir` remembers which are taken.
pub(crate) fn network(ipam_dir: &Path) -> String {
    format!(
        r#"{{
  "cniVersion": "0.4.0",
  "name": "khard",
  "plugins": [
    {{
      "type": "bridge",
      "bridge": "cni0",
      "isGateway": true,
      "hairpinMode": true,
      "ipam": {{
        "type": "host-local",
        "dataDir": "{}",
        "ranges": [[{{ "subnet": "10.88.0.0/16" }}]],
        "routes": [{{ "dst": "0.0.0.0/0" }}]
      }}
    }}
  ]
}}
"#,
        ipam_dir.display()
    )
}
