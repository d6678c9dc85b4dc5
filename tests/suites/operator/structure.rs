//! The tree as it is meant to stay: no circle of files, no arrow upwards between wings, few files beside them, functions
//! that can be seen whole. Reads the sources themselves: `use` lines and paths that begin at a crate.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The crates, and of each its wings from the top down: an arrow may only lead to a later one, or stay inside.
/// Files beside the wings stand where they are named; those of one line know nothing of each other.
const CRATES: [(&str, &[&str]); 5] = [
    (
        "common",
        &[
            "lib",
            "process",
            "store",
            "config model",
            "openmetrics",
            "net",
            "files time words",
        ],
    ),
    (
        "redirector",
        &[
            "main",
            "lib",
            "run",
            "settings",
            "metrics",
            "background",
            "serve",
            "tls",
            "protocol",
            "access_log",
            "answer",
            "routes client",
            "counters",
        ],
    ),
    (
        "healthd",
        &[
            "main",
            "lib",
            "settings",
            "metrics",
            "keeper",
            "watch",
            "probe verdict",
            "evidence checks",
        ],
    ),
    (
        "statsd",
        &["main", "lib", "settings", "live", "render", "report"],
    ),
    (
        "deploy",
        &[
            "main",
            "lib",
            "arguments",
            "up",
            "commands",
            "change",
            "conf",
        ],
    ),
];

/// Files beside the faces of wings in one `src`.
const FILES_BESIDE_WINGS: usize = 8;

/// Lines of a function, its head and its braces counted: what a screen shows.
const FUNCTION: usize = 75;

/// One source file without its tests and comments.
struct Source {
    /// `serve/accept` for `src/serve/accept.rs`.
    module: String,
    lines: Vec<String>,
}

impl Source {
    fn read(root: &Path, path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("a source file can be read");
        let module = path
            .strip_prefix(root)
            .expect("it lies there")
            .with_extension("");
        // Unit tests stand last, by the form of the tree.
        let lines = text
            .lines()
            .take_while(|line| *line != "#[cfg(test)]")
            .map(|line| {
                if line.trim_start().starts_with("//") {
                    ""
                } else {
                    line
                }
            });
        Self {
            module: module.display().to_string(),
            lines: lines.map(str::to_owned).collect(),
        }
    }

    /// The paths below `crate` that it names, and those of its own children (`use child::…` of a face).
    fn paths(&self) -> Vec<String> {
        let text = self.lines.join("\n");
        let mut paths = Vec::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find("crate::") {
            let is_whole = !rest[..at]
                .ends_with(|end: char| end.is_alphanumeric() || end == '_' || end == '$');
            rest = &rest[at + "crate::".len()..];
            let end = rest.find(|next: char| !next.is_alphanumeric() && next != '_' && next != ':');
            if is_whole {
                paths.push(rest[..end.unwrap_or(rest.len())].replace("::", "/"));
            }
        }
        let own = if self.module == "lib" {
            String::new()
        } else {
            format!("{}/", self.module)
        };
        let parent = self
            .module
            .rsplit_once('/')
            .map_or(String::new(), |(parent, _)| format!("{parent}/"));
        for line in &self.lines {
            let Some(used) = line
                .trim_start()
                .trim_start_matches("pub ")
                .strip_prefix("use ")
            else {
                continue;
            };
            let used = used.replace("::", "/");
            let used = used.trim_end_matches(';');
            if let Some(sibling) = used.strip_prefix("super/") {
                paths.push(format!("{parent}{sibling}"));
            } else {
                paths.push(format!(
                    "{own}{}",
                    used.strip_prefix("self/").unwrap_or(used)
                ));
            }
        }
        paths
    }
}

/// The sources of a crate.
fn sources(crate_name: &str) -> Vec<Source> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(crate_name)
        .join("src");
    let mut folders = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)
            .expect("a folder of sources")
            .flatten()
        {
            let path = entry.path();
            let is_test = path.file_stem().is_some_and(|stem| stem == "tests");
            if path.is_dir() && !is_test {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
                found.push(Source::read(&root, &path));
            }
        }
    }
    assert!(
        found.len() > 3,
        "the sources of {crate_name} were not found"
    );
    found.sort_by(|left, right| left.module.cmp(&right.module));
    found
}

/// Which file imports which, within a crate.
fn arrows(sources: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let modules: BTreeSet<&str> = sources
        .iter()
        .map(|source| source.module.as_str())
        .collect();
    let module_of = |path: &str| -> Option<String> {
        let mut path = path.trim_end_matches('/');
        loop {
            if modules.contains(path) {
                return Some(path.to_owned());
            }
            path = path.rsplit_once('/')?.0;
        }
    };
    let to = |source: &Source| {
        let targets = source
            .paths()
            .into_iter()
            .filter_map(|path| module_of(&path));
        targets.filter(|target| *target != source.module).collect()
    };
    sources
        .iter()
        .map(|source| (source.module.clone(), to(source)))
        .collect()
}

/// Everything that can be reached from `from`.
fn reached(arrows: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut next = vec![from.to_owned()];
    while let Some(module) = next.pop() {
        for target in arrows.get(&module).into_iter().flatten() {
            if found.insert(target.clone()) {
                next.push(target.clone());
            }
        }
    }
    found
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut circles = Vec::new();
    for (name, _) in CRATES {
        let arrows = arrows(&sources(name));
        let reach: BTreeMap<&String, _> = arrows
            .keys()
            .map(|module| (module, reached(&arrows, module)))
            .collect();
        for (module, targets) in &arrows {
            let back = targets
                .iter()
                .filter(|target| reach[target].contains(module));
            circles.extend(
                back.map(|target| format!("{name}/src: {module} and {target} lead to each other")),
            );
        }
    }
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

#[test]
fn arrows_between_wings_lead_downwards() {
    let mut upwards = Vec::new();
    for (name, wings) in CRATES {
        let wing = |module: &str| module.split('/').next().unwrap_or_default().to_owned();
        let floor = |of: &str| {
            wings
                .iter()
                .position(|floor| floor.split(' ').any(|wing| wing == of))
        };
        for (module, targets) in arrows(&sources(name)) {
            let from = wing(&module);
            let Some(high) = floor(&from) else {
                upwards.push(format!(
                    "{name}/src/{from}: a wing or file without a floor: give it one in this test"
                ));
                continue;
            };
            for target in targets {
                let to = wing(&target);
                if from != to && floor(&to).is_none_or(|low| low <= high) {
                    upwards.push(format!("{name}/src: {module} must not know {target}"));
                }
            }
        }
    }
    assert!(upwards.is_empty(), "{}", upwards.join("\n"));
}

#[test]
fn few_files_stand_beside_the_wings() {
    for (name, _) in CRATES {
        let modules: BTreeSet<String> = sources(name)
            .into_iter()
            .map(|source| source.module)
            .collect();
        let is_face = |module: &str| {
            modules
                .iter()
                .any(|other| other.starts_with(&format!("{module}/")))
        };
        let beside: Vec<_> = modules
            .iter()
            .filter(|module| !module.contains('/') && !is_face(module))
            .collect();
        assert!(
            beside.len() <= FILES_BESIDE_WINGS,
            "{name}/src: {} files beside the wings: {beside:?}",
            beside.len()
        );
    }
}

#[test]
fn functions_can_be_seen_whole() {
    let mut long = Vec::new();
    for (name, _) in CRATES {
        for source in sources(name) {
            let is_head = |line: &str| {
                let words = line.trim_start().trim_end_matches('{');
                let mut words = words.split([' ', '(', '<']).take(6);
                words.any(|word| word == "fn")
            };
            let indent = |line: &str| line.len() - line.trim_start().len();
            for (at, head) in source
                .lines
                .iter()
                .enumerate()
                .filter(|(_, line)| is_head(line))
            {
                let closes =
                    |line: &&String| line.trim_end() == format!("{}}}", " ".repeat(indent(head)));
                let length = source.lines[at..]
                    .iter()
                    .position(|line| closes(&line))
                    .map_or(usize::MAX, |end| end + 1);
                let ends_at_once = head.ends_with('}') || head.ends_with(';');
                if length > FUNCTION && !ends_at_once {
                    long.push(format!(
                        "{name}/src/{}.rs:{}: {length} lines",
                        source.module,
                        at + 1
                    ));
                }
            }
        }
    }
    assert!(
        long.is_empty(),
        "functions over {FUNCTION} lines:\n{}",
        long.join("\n")
    );
}
