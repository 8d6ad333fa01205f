//! Certificates of a cluster that lives for one test: an authority, one certificate for all that answer and one for all that ask.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use serde_json::{Value, json};

use crate::command::CommandExt as _;

/// A folder with `ca.crt`, `server.crt`, `client.crt` and their keys, and `accounts.key`, `accounts.pub` for service accounts.
pub(super) struct Keys {
    pub(super) dir: PathBuf,
}

impl Keys {
    /// `names`: of the nodes, by which the API server knows them.
    pub(super) fn make(dir: PathBuf, names: &[&str], addresses: &[&str]) -> Result<Self> {
        fs::create_dir_all(&dir)?;
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
        openssl(
            &dir,
            &["req", "-x509", "-subj", "/CN=khard-tests", "-keyout", "ca.key", "-out", "ca.crt"],
            &curve,
        )?;
        let names = names.iter().map(|name| format!("DNS:{name}"));
        let alternatives: Vec<_> =
            names.chain(addresses.iter().map(|address| format!("IP:{address}"))).collect();
        let alternatives = format!("subjectAltName={}", alternatives.join(","));
        for (name, subject, usage) in [
            ("server", "/CN=server", ["extendedKeyUsage=serverAuth", &alternatives].join("\n")),
            ("client", "/O=system:masters/CN=admin", "extendedKeyUsage=clientAuth".to_owned()),
        ] {
            let [key, request, certificate, extensions] =
                ["key", "csr", "crt", "ext"].map(|kind| format!("{name}.{kind}"));
            fs::write(dir.join(&extensions), usage)?;
            openssl(&dir, &["req", "-subj", subject, "-keyout", &key, "-out", &request], &curve[..5])?;
            let sign =
                ["x509", "-req", "-in", &request, "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"];
            openssl(&dir, &sign, &["-days", "2", "-extfile", &extensions, "-out", &certificate])?;
        }
        openssl(&dir, &["genrsa", "-out", "accounts.key", "2048"], &[])?;
        openssl(&dir, &["rsa", "-in", "accounts.key", "-pubout", "-out", "accounts.pub"], &[])?;
        Ok(Self { dir })
    }

    pub(super) fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// For a client of the API server at `server`, whose certificates are in `dir`.
    pub(super) fn kubeconfig(server: &str, dir: &Path) -> Value {
        let file = |name: &str| dir.join(name).display().to_string();
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority": file("ca.crt")}}],
            "users": [{"name": "u", "user": {"client-certificate": file("client.crt"), "client-key": file("client.key")}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        })
    }
}

fn openssl(dir: &Path, words: &[&str], more: &[&str]) -> Result<()> {
    Command::new("openssl").args(words).args(more).current_dir(dir).read().map(drop)
}
