from rc_audioldm.generation.generate import generate, ALL_MODES
from rc_audioldm.generation.settings import Settings
from rc_audioldm.generation.requests import requests_of
from rc_audioldm.denoising.sampling import Sampling
from rc_audioldm.denoising.loop import Denoising
import torch
def test_all(models, finder, state_adapter):
    print({k: m.state_count for k,m in models.items()}, models['audioldm2'].language_model.config.n_embd)
    for fam, m in models.items():
        for name, mode in ALL_MODES.items():
            if fam not in mode.families: continue
            s=Settings(mode=name, sampling=Sampling(seconds=0.01675, denoising=Denoising("ddim",3)))
            for r in generate(m, ["drum","a harp"], s, finder=finder, adapter=state_adapter):
                print(fam, name, r.id, float(r.audio.abs().max()), r.cos_text, r.cos_style, r.clap_text, r.clap_style, len(r.influences), r.prompt_used, r.words)
