//! The tree of one subject's files. Knows nothing about other accesses.
//!
//! Nodes are in one vector and are walked without recursion, for a path can have 2,000 parts.

use std::collections::{BTreeMap, HashMap};

use khard_profile::{
    Bytes, escape,
    recording::{Access, AccessKey, Certainty, FileFacts, FilePerms, Outcome},
};

use super::{
    Action,
    list::{List, Row},
    table::is_file,
    words,
};
use crate::{stream::By, subjects::Observed};

/// A folder with more files than this below it begins folded, but for the topmost.
const FOLDED_ABOVE: usize = 40;

/// A folder that is shown, or a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileRow {
    node: usize,
    /// How deep.
    pub(crate) depth: usize,
    /// The last part of the path; of folders that hold one folder only, the parts together.
    pub(crate) name: String,
    /// `None`: a file.
    pub(crate) is_open: Option<bool>,
    /// What was granted, of everything below a folder.
    pub(crate) perms: String,
    /// Files below a folder.
    pub(crate) n_files: usize,
    /// Whether something was refused, of everything below a folder.
    pub(crate) is_refused: bool,
    /// What else is known.
    pub(crate) facts: String,
    /// When first, since the run began.
    pub(crate) first: String,
    /// By whom.
    pub(crate) witness: String,
}

impl Row for FileRow {
    type Key = usize;

    fn key(&self) -> usize {
        self.node
    }

    fn matches(&self, _: &str) -> bool {
        // The tree leaves out what the filter does not let through.
        true
    }
}

/// What was done with one file.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and any of them can hold with any other"
)]
#[derive(Debug)]
struct Leaf {
    granted: FilePerms,
    refused: FilePerms,
    is_refused: bool,
    link_to: Option<Bytes>,
    /// Of every access.
    owner: bool,
    inferred: bool,
    /// Of any access.
    deleted: bool,
    disconnected: bool,
    first: By,
}

#[derive(Debug, Default)]
struct Node {
    parent: usize,
    name: Vec<u8>,
    /// By name; that of a folder ends with its slash.
    children: BTreeMap<Vec<u8>, usize>,
    leaf: Option<Leaf>,
    granted: FilePerms,
    has_links: bool,
    n_files: usize,
    is_refused: bool,
    /// As many files below as a filter lets through.
    n_shown: usize,
}

/// The tree, and what of it is shown.
#[derive(Debug, Default)]
pub(crate) struct Files {
    nodes: Vec<Node>,
    start_ns: u64,
    /// What the user has folded and unfolded, by path.
    folds: HashMap<Vec<u8>, bool>,
    filter: String,
    /// What is shown.
    pub(crate) list: List<FileRow>,
}

impl Files {
    /// The files of a subject. True if what is shown is different.
    pub(super) fn build(&mut self, observed: &Observed) -> bool {
        let selected = self.list.selected().map(|row| self.path(row.node));
        self.nodes = vec![Node::default()];
        self.start_ns = observed.state().run.id.start_ns;
        for (key, _, by) in observed.accesses() {
            let (path, facts, link_to) = match &key.what {
                what if !is_file(what) => continue,
                Access::File(file) => (&file.path, file.facts, None),
                Access::Link { link, target } => (link, FileFacts::default(), Some(target)),
                _ => continue,
            };
            let node = self.insert(path.as_slice());
            self.nodes[node].add(key, facts, link_to, by);
        }
        self.sum_up();
        let key = selected.and_then(|path| self.find(&path));
        self.show(key)
    }

    pub(super) fn clear(&mut self) {
        self.nodes.clear();
        self.folds.clear();
        self.list = List::default();
    }

    fn insert(&mut self, path: &[u8]) -> usize {
        let mut at = 0;
        for part in parts(path) {
            at = self.nodes[at].children.get(part).copied().unwrap_or_else(|| {
                let node = self.nodes.len();
                self.nodes.push(Node { parent: at, name: part.to_vec(), ..Node::default() });
                self.nodes[at].children.insert(part.to_vec(), node);
                node
            });
        }
        at
    }

    /// Children come after their parents, so that one walk from the end adds everything up.
    fn sum_up(&mut self) {
        for idx in (1..self.nodes.len()).rev() {
            let filter = self.filter.as_bytes();
            let node = &self.nodes[idx];
            let (mut granted, mut has_links) = (node.granted, node.has_links);
            let (mut n_files, mut n_shown, mut is_refused) = (node.n_files, node.n_shown, node.is_refused);
            if let Some(leaf) = &node.leaf {
                granted = granted.or(leaf.granted);
                has_links |= leaf.link_to.is_some();
                is_refused |= leaf.is_refused;
                n_files += 1;
                let is_shown = || escape::terminal(&self.path(idx)).contains(self.filter.as_str());
                n_shown += usize::from(filter.is_empty() || is_shown());
            }
            let node = &mut self.nodes[idx];
            (node.granted, node.has_links, node.is_refused) = (granted, has_links, is_refused);
            (node.n_files, node.n_shown) = (n_files, n_shown);
            let parent = node.parent;
            let parent = &mut self.nodes[parent];
            parent.granted = parent.granted.or(granted);
            parent.has_links |= has_links;
            parent.is_refused |= is_refused;
            parent.n_files += n_files;
            parent.n_shown += n_shown;
        }
    }

    fn path(&self, node: usize) -> Vec<u8> {
        let up = std::iter::successors(Some(node), |at| Some(self.nodes[*at].parent));
        let mut names: Vec<&[u8]> =
            up.take_while(|at| *at != 0).map(|at| self.nodes[at].name.as_slice()).collect();
        names.reverse();
        names.concat()
    }

    fn find(&self, path: &[u8]) -> Option<usize> {
        let mut parts = path.split_inclusive(|byte| *byte == b'/');
        parts.try_fold(0, |at, part| self.nodes[at].children.get(part).copied())
    }

    fn show(&mut self, key: Option<usize>) -> bool {
        let mut rows = Vec::new();
        let children = |node: &Node, depth: usize| {
            node.children.values().rev().map(move |child| (*child, depth)).collect::<Vec<_>>()
        };
        let mut left = self.nodes.first().map(|root| children(root, 0)).unwrap_or_default();
        while let Some((mut at, depth)) = left.pop() {
            let mut name = self.nodes[at].name.clone();
            // Folders that hold nothing but one folder are one row.
            while let Some(child) = self.nodes[at].only_folder() {
                at = child;
                name.extend_from_slice(&self.nodes[at].name);
            }
            let node = &self.nodes[at];
            if node.n_shown == 0 {
                continue;
            }
            let is_folder = !node.children.is_empty();
            let is_open = is_folder.then(|| self.is_open(at, depth));
            if is_open == Some(true) {
                left.extend(children(node, depth + 1));
            }
            rows.push(node.row(at, depth, escape::terminal(&name), is_open, self.start_ns));
        }
        self.list.set_with_cursor_on(rows, "", key.as_ref())
    }

    fn is_open(&self, node: usize, depth: usize) -> bool {
        let by_default = depth == 0 || self.nodes[node].n_files <= FOLDED_ABOVE;
        !self.filter.is_empty() || self.folds.get(&self.path(node)).copied().unwrap_or(by_default)
    }

    pub(super) fn set_filter(&mut self, filter: &str) {
        let key = self.list.selected().map(|row| row.node);
        filter.clone_into(&mut self.filter);
        for node in &mut self.nodes {
            (node.granted, node.has_links, node.is_refused) = (FilePerms::EMPTY, false, false);
            (node.n_files, node.n_shown) = (0, 0);
        }
        self.sum_up();
        self.show(key);
    }

    pub(super) fn go(&mut self, action: Action) {
        match action {
            Action::Left | Action::Right => self.fold(action == Action::Right),
            _ => self.list.go(action),
        }
    }

    fn fold(&mut self, open: bool) {
        let Some(row) = self.list.selected() else { return };
        let (node, depth) = (row.node, row.depth);
        if row.is_open == Some(!open) {
            self.folds.insert(self.path(node), open);
            self.show(Some(node));
        } else if open {
            self.list.go(Action::Down);
        } else {
            // To the folder around it: the nearest row above that is less deep.
            let above = (0..self.list.cursor()).rev().filter_map(|at| self.list.get(at));
            if let Some(key) = above.into_iter().find(|row| row.depth < depth).map(Row::key) {
                self.list.put_cursor_on(&key);
            }
        }
    }
}

impl Node {
    /// The folder that is all that is in it.
    fn only_folder(&self) -> Option<usize> {
        let (name, child) = self.children.first_key_value()?;
        (self.leaf.is_none() && self.children.len() == 1 && name.ends_with(b"/")).then_some(*child)
    }

    fn add(&mut self, key: &AccessKey, facts: FileFacts, link_to: Option<&Bytes>, by: &By) {
        let leaf = self.leaf.get_or_insert_with(|| Leaf {
            granted: FilePerms::EMPTY,
            refused: FilePerms::EMPTY,
            is_refused: false,
            link_to: None,
            owner: true,
            inferred: true,
            deleted: false,
            disconnected: false,
            first: by.clone(),
        });
        let perms = if let Access::File(file) = &key.what { file.perms } else { FilePerms::EMPTY };
        match key.outcome {
            Outcome::Granted => leaf.granted = leaf.granted.or(perms),
            Outcome::Refused => (leaf.refused, leaf.is_refused) = (leaf.refused.or(perms), true),
        }
        leaf.link_to = leaf.link_to.take().or_else(|| link_to.cloned());
        leaf.owner &= facts.owner;
        leaf.inferred &= key.certainty == Certainty::Inferred;
        leaf.deleted |= facts.deleted;
        leaf.disconnected |= facts.disconnected;
        if by.time_ns < leaf.first.time_ns {
            leaf.first = by.clone();
        }
    }

    fn row(&self, node: usize, depth: usize, name: String, is_open: Option<bool>, start_ns: u64) -> FileRow {
        let is_folder = is_open.is_some();
        let leaf = self.leaf.as_ref().filter(|_| !is_folder);
        let link = if self.has_links { "l" } else { "" };
        FileRow {
            node,
            depth,
            name,
            is_open,
            perms: format!("{}{link}", words::perms(self.granted)),
            n_files: self.n_files,
            is_refused: self.is_refused,
            facts: leaf.map_or_else(
                || if self.is_refused { "refused".to_owned() } else { String::new() },
                Leaf::facts,
            ),
            first: leaf.map(|leaf| words::time_since(start_ns, leaf.first.time_ns)).unwrap_or_default(),
            witness: leaf.map(|leaf| words::witness(&leaf.first)).unwrap_or_default(),
        }
    }
}

impl Leaf {
    fn facts(&self) -> String {
        let refused = self.is_refused.then(|| format!("refused {}", words::perms(self.refused)));
        let word = |holds: bool, word: &str| holds.then(|| word.to_owned());
        let facts = [
            refused.map(|said| said.trim_end().to_owned()),
            word(self.deleted, "deleted"),
            word(self.disconnected, "disconnected"),
            word(self.owner, "owner"),
            word(self.inferred, "inferred"),
            self.link_to.as_ref().map(|target| format!("link to {}", words::clean(target))),
        ];
        facts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// Folders with their slash, then the file. What is done with a folder itself is its file `.`.
fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let own: Option<&[u8]> = path.ends_with(b"/").then_some(b".");
    path.split_inclusive(|byte| *byte == b'/').chain(own)
}
