//! The verb `picture`: the dashboard as docs/dashboard.svg, from a real terminal in a guest with a real program behind it. Owns what is
//! shown; how a screen becomes a picture is `svg`'s.

mod svg;

use std::{
    fs,
    io::{Write as _, stderr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    build, debian,
    paths::Paths,
    setup::{self, Purpose},
    vm::{Options, Outcome, Parts, Stream},
};

const KERNEL: &str = "6.12";
const COLUMNS: usize = 104;
const ROWS: usize = 30;
const LIMIT: Duration = Duration::from_mins(5);

/// nginx under the dashboard, a few requests, its files; printed as the terminal has it.
fn script() -> String {
    format!(
        r#"
mkdir -p /srv/www && echo hello > /srv/www/index.html
cat > /srv/nginx.conf <<'END'
user www-data; daemon off; pid /run/web.pid; error_log /var/log/nginx/error.log;
events {{ }}
http {{ access_log /var/log/nginx/access.log; server {{ listen 127.0.0.1:8080; root /srv/www; }} }}
END
screen() {{ tmux -L picture capture-pane -p "$@"; }}
shows() {{ for _ in $(seq 300); do screen | grep -q "$1" && return; sleep 0.2; done; screen >&2; exit 1; }}
export LC_ALL=C.UTF-8
tmux -L picture -f /dev/null new-session -d -x {COLUMNS} -y {ROWS} 'exec khard tui --name web -o /tmp/out -- nginx -c /srv/nginx.conf'
shows running
for path in / /index.html /missing; do curl -s --retry 20 --retry-connrefused --retry-delay 1 -o /dev/null http://127.0.0.1:8080$path; done
tmux -L picture send-keys Enter
sleep 2
tmux -L picture send-keys 3
shows index.html
sleep 2
screen -e
tmux -L picture kill-server
"#
    )
}

/// The verb `picture`.
pub(crate) fn verb(paths: &Paths) -> Result<u8> {
    setup::ensure(paths, &[Purpose::Vm])?;
    let built = build::all(paths)?;
    let parts = Parts::make(paths, KERNEL, &debian::suite(), &built.bin_dir)?;
    let mut guest = parts.boot(paths, &paths.state_dir("picture")?, &Options::default(), false)?;
    let mut screen = Vec::new();
    let outcome = guest.run(&script(), Some(LIMIT), &mut |stream, bytes| match stream {
        Stream::Out => screen.extend(bytes),
        // Whoever reads our output has gone when this fails; the picture is made all the same.
        Stream::Err => drop(stderr().write_all(bytes)),
    })?;
    guest.end()?;
    ensure!(matches!(outcome, Outcome::Exited(0)), "the dashboard in a guest: {outcome:?}");
    let path = paths.root.join("docs/dashboard.svg");
    fs::write(&path, svg::of_screen(&String::from_utf8_lossy(&screen), COLUMNS, ROWS))
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(0)
}
