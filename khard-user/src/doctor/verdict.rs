//! What of khard works on a machine with these facts. Owns the judgement; finds nothing out.
use super::{
    Outcome, brief, kernel::KernelFacts, kubelet::KubeletFacts, programs::ProgramFacts,
    runtimes::RuntimeFacts,
};
use serde::Serialize;

/// One thing that khard does, and whether it does it here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Ability {
    /// What.
    pub(crate) what: &'static str,
    /// Whether.
    pub(crate) works: bool,
    /// By what means, or what stands against it and what to do.
    pub(crate) why: String,
}

const RECORD: &str = "record system calls";

pub(super) fn can_record(abilities: &[Ability]) -> bool {
    abilities.iter().any(|ability| ability.what == RECORD && ability.works)
}

pub(super) fn judge(
    kernel: &KernelFacts,
    programs: &ProgramFacts,
    runtimes: &RuntimeFacts,
    kubelets: &[KubeletFacts],
) -> Vec<Ability> {
    let ability = |what, judged: Result<String, String>| {
        let works = judged.is_ok();
        Ability { what, works, why: judged.unwrap_or_else(|why| why) }
    };
    let recording = recording(kernel, programs);
    let needs_recording = |judged: Result<String, String>| match &recording {
        Ok(_) => judged,
        Err(_) => Err(format!("needs: {RECORD}")),
    };
    vec![
        ability(RECORD, recording.clone()),
        ability("prove that no call was lost", needs_recording(proof(programs))),
        ability("record files and what else AppArmor decides on", needs_recording(accesses(programs))),
        ability("record from a container's first instruction", needs_recording(births(kernel))),
        ability("record pods and containers by name", needs_recording(names(runtimes))),
        ability("run workloads under seccomp profiles", enforcement(kernel)),
        ability("use profiles in pods (type Localhost)", localhost(kubelets)),
    ]
}

fn accesses(programs: &ProgramFacts) -> Result<String, String> {
    let n_seen = programs.hooks.iter().filter(|hook| hook.by.is_some()).count();
    let said = format!("{n_seen} of {} hooks are seen", programs.hooks.len());
    if n_seen == 0 { Err(said) } else { Ok(said) }
}

fn recording(kernel: &KernelFacts, programs: &ProgramFacts) -> Result<String, String> {
    if let Some(btf) = kernel.btf.known().filter(|btf| !btf.missing.is_empty()) {
        return Err(format!(
            "this kernel's types lack {}: khard does not guess offsets",
            btf.missing.join(", ")
        ));
    }
    if kernel.lockdown.known().is_some_and(|mode| mode == "confidentiality") {
        return Err(
            "kernel lockdown in mode confidentiality keeps BPF programs from reading the kernel".to_owned()
        );
    }
    let problem = match (&programs.load, &programs.attach) {
        (Outcome::Yes, Outcome::Yes) => {
            return Ok(format!("{} programs load and attach", programs.planned.len()));
        }
        (Outcome::No(why) | Outcome::Untried(why), _) => {
            format!("khard's programs do not load: {}", brief(why))
        }
        (Outcome::Yes, Outcome::No(why) | Outcome::Untried(why)) => {
            format!("khard's programs do not attach: {}", brief(why))
        }
    };
    let missing = &kernel.privileges.missing_capabilities;
    if programs.built_in && !missing.is_empty() {
        return Err(format!("this process lacks {}: run khard as root", missing.join(", ")));
    }
    Err(problem)
}

/// The kernel counts how often it skipped each program: a program that was never skipped saw everything.
fn proof(programs: &ProgramFacts) -> Result<String, String> {
    match programs.n_syscall_programs {
        0 => Err("no program for system calls is planned".to_owned()),
        1 => {
            Ok("the kernel counts what it skips; one program, which this kernel does not preempt".to_owned())
        }
        n => Ok(format!(
            "the kernel counts what it skips; {n} programs watch each other, as this kernel preempts them"
        )),
    }
}

fn births(kernel: &KernelFacts) -> Result<String, String> {
    match &kernel.cgroups.v2 {
        Some(at) => Ok(format!("by cgroup births in the v2 tree at {}", at.display())),
        None => {
            Err("no cgroup v2 tree is mounted: `mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified`".to_owned())
        }
    }
}

fn names(runtimes: &RuntimeFacts) -> Result<String, String> {
    match runtimes
        .endpoints
        .iter()
        .find_map(|endpoint| Some((endpoint.answers.as_ref()?, &endpoint.endpoint)))
    {
        Some((who, at)) => Ok(format!("{who} answers at {at}")),
        None => {
            Err("no container runtime answers: start one or name its socket; commands and cgroups need none"
                .to_owned())
        }
    }
}

fn enforcement(kernel: &KernelFacts) -> Result<String, String> {
    let has = |action: &str| kernel.seccomp_actions.iter().any(|a| a == action);
    if has("errno") && has("allow") {
        Ok("the kernel filters system calls".to_owned())
    } else {
        Err("this kernel has no seccomp filters".to_owned())
    }
}

fn localhost(kubelets: &[KubeletFacts]) -> Result<String, String> {
    match kubelets.first() {
        None => Err("no kubelet was found on this machine".to_owned()),
        Some(kubelet) => {
            let state = if kubelet.seccomp_root_exists { "" } else { ", a folder still to be made" };
            Ok(format!("put them below {}{state}", kubelet.seccomp_root.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        Finding,
        kernel::{BtfFacts, CgroupFacts, PrivilegeFacts},
        programs::HookFacts,
        runtimes::EndpointFacts,
    };

    fn kernel() -> KernelFacts {
        KernelFacts {
            release: "6.12.1".into(),
            machine: "x86_64".into(),
            btf: Finding::Known(BtfFacts { n_fields: 2, missing: vec![] }),
            lsms: Finding::Unknown("not asked".into()),
            preemption: Finding::Unknown("not asked".into()),
            lockdown: Finding::Known("none".into()),
            apparmor: true,
            seccomp_actions: vec!["errno".into(), "allow".into()],
            tracefs_mounted: true,
            cgroups: CgroupFacts { layout: "unified", v2: Some("/sys/fs/cgroup".into()) },
            privileges: PrivilegeFacts { uid: 0, missing_capabilities: vec![] },
        }
    }

    fn programs(load: Outcome, attach: Outcome) -> ProgramFacts {
        ProgramFacts {
            types: vec![],
            planned: vec!["a", "b"],
            n_syscall_programs: 1,
            hooks: vec![HookFacts { name: "file_open", class: "files", by: Some("lsm"), why_not: None }],
            built_in: true,
            load,
            attach,
        }
    }

    fn runtimes(answers: Option<&str>) -> RuntimeFacts {
        let endpoint = EndpointFacts {
            endpoint: "unix:///c.sock".into(),
            answers: answers.map(Into::into),
            problem: None,
        };
        RuntimeFacts { programs: vec![], endpoints: vec![endpoint] }
    }

    fn works(abilities: &[Ability]) -> Vec<bool> {
        abilities.iter().map(|ability| ability.works).collect()
    }

    #[test]
    fn where_the_programs_run_recording_works_and_the_rest_follows_its_own_facts() {
        let all =
            judge(&kernel(), &programs(Outcome::Yes, Outcome::Yes), &runtimes(Some("containerd 2")), &[]);
        assert!(can_record(&all));
        assert_eq!(works(&all), [true, true, true, true, true, true, false]);
        let without = KernelFacts { cgroups: CgroupFacts { layout: "legacy", v2: None }, ..kernel() };
        let all = judge(&without, &programs(Outcome::Yes, Outcome::Yes), &runtimes(None), &[]);
        assert_eq!(works(&all), [true, true, true, false, false, true, false]);
    }

    #[test]
    fn where_they_do_not_run_the_reason_is_given_and_what_needs_them_falls_too() {
        let refused = || programs(Outcome::No("EPERM".into()), Outcome::Untried("-".into()));
        let user = KernelFacts {
            privileges: PrivilegeFacts { uid: 1000, missing_capabilities: vec!["CAP_BPF"] },
            ..kernel()
        };
        let all = judge(&user, &refused(), &runtimes(Some("containerd 2")), &[]);
        assert!(!can_record(&all));
        assert_eq!(works(&all), [false, false, false, false, false, true, false]);
        assert_eq!(all[0].why, "this process lacks CAP_BPF: run khard as root");
        let locked = KernelFacts { lockdown: Finding::Known("confidentiality".into()), ..kernel() };
        assert!(judge(&locked, &refused(), &runtimes(None), &[])[0].why.contains("lockdown"));
        let odd = KernelFacts {
            btf: Finding::Known(BtfFacts { n_fields: 2, missing: vec!["KN_ID".into()] }),
            ..kernel()
        };
        assert!(judge(&odd, &refused(), &runtimes(None), &[])[0].why.contains("KN_ID"));
        let detached = programs(Outcome::Yes, Outcome::No("no tracefs".into()));
        assert!(
            judge(&kernel(), &detached, &runtimes(None), &[])[0].why.contains("do not attach: no tracefs")
        );
    }
}
