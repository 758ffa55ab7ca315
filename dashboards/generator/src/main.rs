//! Writes the dashboards and rules into the repository.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for file in dashboards::files() {
        std::fs::write(root.join(&file.path), &file.contents)?;
    }
    Ok(())
}
