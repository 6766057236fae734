//! `man`: manual pages of every command, for packages.

use std::path::Path;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_mangen::Man;

use super::Exit;
use super::text::print_data;
use crate::cli::{Cli, ManArgs};

pub(super) fn man(args: &ManArgs) -> anyhow::Result<Exit> {
    // No page has a date, so that builds are reproducible.
    if let Some(directory) = &args.out {
        write(directory).with_context(|| format!("--out {}: could not write the manual pages", directory.display()))?;
    } else {
        let mut page = Vec::new();
        Man::new(Cli::command()).render(&mut page)?;
        print_data(&String::from_utf8_lossy(&page))?;
    }
    Ok(Exit::Done)
}

fn write(directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Cli::command(), directory)
}
