//! Embeds the shipped policy set, so that the binary needs no files beside it.

use std::{
    error::Error,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn Error>> {
    // Asked when this runs: a target folder that clones share may have it compiled for another.
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../..");
    let (policies, schema) = (root.join("policies"), root.join("schema.cedarschema"));
    println!("cargo::rerun-if-changed={}", policies.display());
    println!("cargo::rerun-if-changed={}", schema.display());

    let mut files = Vec::new();
    find(&policies, &mut files)?;
    files.sort();
    let mut source = String::new();
    writeln!(
        source,
        "const SCHEMA: &str = {:?};",
        fs::read_to_string(&schema)?
    )?;
    writeln!(source, "const POLICIES: &[(&str, &str)] = &[")?;
    for path in files {
        let name: Vec<_> = path
            .strip_prefix(&policies)?
            .components()
            .map(|part| part.as_os_str().to_string_lossy())
            .collect();
        writeln!(
            source,
            "    ({:?}, {:?}),",
            name.join("/"),
            fs::read_to_string(&path)?
        )?;
    }
    writeln!(source, "];")?;
    fs::write(
        Path::new(&std::env::var("OUT_DIR")?).join("shipped.rs"),
        source,
    )?;
    Ok(())
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "cedar")
        {
            files.push(path);
        }
    }
    Ok(())
}
