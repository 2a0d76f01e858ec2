"""Studies of one person over time: registered, compared by lesion, shown on a page (extra: followup)."""
