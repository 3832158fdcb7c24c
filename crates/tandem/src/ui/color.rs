//! Whether to colour: what the person asked for, what the environment says, what is written to.

use clap::ValueEnum;

/// What `--color` may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless the environment says otherwise
    #[default]
    Auto,
    Always,
    Never,
}

/// What the environment says of colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wishes {
    /// `NO_COLOR` is set and not empty (<https://no-color.org>).
    pub(crate) none: bool,
    /// `CLICOLOR_FORCE` is set, not empty, and not `0` (<https://bixense.com/clicolors>).
    pub(crate) force: bool,
    /// `CLICOLOR` is `0`.
    pub(crate) off: bool,
    /// `TERM` is `dumb`.
    pub(crate) dumb: bool,
}

impl Wishes {
    pub(crate) fn of_environment() -> Self {
        let value = |name| std::env::var_os(name).unwrap_or_default();
        let force = value("CLICOLOR_FORCE");
        Self {
            none: !value("NO_COLOR").is_empty(),
            force: !force.is_empty() && force != "0",
            off: value("CLICOLOR") == "0",
            dumb: value("TERM") == "dumb",
        }
    }
}

impl Color {
    /// Whether what is written there gets colours. The flag wins over the environment, a no over a yes.
    pub(crate) fn applies(self, is_terminal: bool, wishes: Wishes) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if wishes.none => false,
            Self::Auto => wishes.force || (is_terminal && !wishes.off && !wishes.dumb),
        }
    }

    /// The same for what the parser of the command line prints: its help and its errors.
    pub(crate) fn for_help(self, wishes: Wishes) -> clap::ColorChoice {
        match self {
            Self::Always => clap::ColorChoice::Always,
            Self::Never => clap::ColorChoice::Never,
            Self::Auto if wishes.none || wishes.off || wishes.dumb => clap::ColorChoice::Never,
            Self::Auto if wishes.force => clap::ColorChoice::Always,
            Self::Auto => clap::ColorChoice::Auto,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_wins_over_the_environment_and_a_no_over_a_yes() {
        let none = Wishes { none: true, force: true, ..Wishes::default() };
        assert!(Color::Always.applies(false, none));
        assert!(!Color::Auto.applies(true, none));
        assert!(!Color::Never.applies(true, Wishes { force: true, ..Wishes::default() }));
    }

    #[test]
    fn without_wishes_only_a_terminal_is_coloured() {
        assert!(Color::Auto.applies(true, Wishes::default()));
        assert!(!Color::Auto.applies(false, Wishes::default()));
        assert!(Color::Auto.applies(false, Wishes { force: true, ..Wishes::default() }));
        assert!(!Color::Auto.applies(true, Wishes { off: true, ..Wishes::default() }));
        assert!(!Color::Auto.applies(true, Wishes { dumb: true, ..Wishes::default() }));
    }
}
