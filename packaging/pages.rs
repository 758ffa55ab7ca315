//! The pages of the documentation as a package has them: what is not in the package is linked to where the source is.

use std::path::{Path, PathBuf};
use std::{fs, io};

use regex::{Captures, Regex};

const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// Writes the pages that have links into `folder`, each at its path in the repository.
///
/// # Errors
/// If a page cannot be read, or the folder not be written to.
pub(crate) fn write_all(folder: &Path) -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![PathBuf::from("README.md"), PathBuf::from("alerts/RUNBOOKS.md")];
    for entry in fs::read_dir(root.join("docs"))? {
        pages.push(Path::new("docs").join(entry?.file_name()));
    }
    for page in pages.iter().filter(|page| is_page(page)) {
        let path = folder.join(page);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(path, linked(&fs::read_to_string(root.join(page))?, page))?;
    }
    Ok(())
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|kind| kind == "md")
}

/// The text of `page`, whose links lead to what the package has at the same place beside it, and else to the source.
fn linked(text: &str, page: &Path) -> String {
    let Ok(link) = Regex::new(r"\]\(([^)#:\s]+)(#[^)]*)?\)") else { return text.to_owned() };
    let folder = page.parent().unwrap_or_else(|| Path::new(""));
    let replaced = link.replace_all(text, |found: &Captures<'_>| {
        let path = normal(&folder.join(&found[1]));
        let there = if folder == Path::new("alerts") {
            path.starts_with("alerts")
        } else {
            path == Path::new("README.md")
                || path == Path::new("METRICS.md")
                || path.starts_with("docs") && is_page(&path)
        };
        let anchor = found.get(2).map_or("", |anchor| anchor.as_str());
        if there { found[0].to_owned() } else { format!("]({REPOSITORY}/blob/main/{}{anchor})", path.display()) }
    });
    replaced.into_owned()
}

/// `docs/../alerts` is `alerts`.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut path, part| {
        if part.as_os_str() == ".." {
            path.pop();
        } else {
            path.push(part);
        }
        path
    })
}
