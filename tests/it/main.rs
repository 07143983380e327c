mod cli;
mod cli_local;
mod project;
