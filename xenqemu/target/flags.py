"""What a profile means for QEMU's configure."""

from __future__ import annotations

from packaging.version import Version

from xenqemu.target.profile import TARGET, Profile, State


def configure_arguments(profile: Profile, version: Version) -> tuple[str, ...]:
    """Return what the target and `profile` add to QEMU's configure command for `version`.

    No paths and nothing about where Xen is: those belong to whoever calls configure. A feature that is optional
    gets no flag: configure enables it when its library is there.
    """
    features = profile.features_for(version)
    flags = [f"--{state.value}-{name}" for name, state in features.items() if state is not State.OPTIONAL]
    return (f"--target-list={TARGET}", *profile.options_for(version), *flags)
